//! The page at `/docs` in a headless Chromium, driven by its debugging protocol: it loads without
//! asking anybody else for anything, and "Try it out" works.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::scene::Scene;

/// A page that is there at all is there within seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page.
struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    sent: u64,
    /// The address of everything that the page asked for.
    requests: Vec<String>,
    /// What the page complained about.
    complaints: Vec<String>,
    _process: Child,
    _profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .flat_map(|folder| NAMES.map(|name| folder.join(name)))
            .find(|program| program.exists());
        let program = found.expect("Chromium is missing: run `make test`, which installs it");
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = devtools(profile.path()).await;
        let (socket, _) = connect_async(url).await.unwrap();
        let mut browser = Self {
            socket,
            session: String::new(),
            sent: 0,
            requests: Vec::new(),
            complaints: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let page = json!({ "url": "about:blank" });
        let page = browser.call("Target.createTarget", page).await;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in [
            "Network.enable",
            "Page.enable",
            "Runtime.enable",
            "Log.enable",
        ] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    /// Asks the browser for something; notes meanwhile what the page does.
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let Message::Text(text) = message.unwrap().unwrap().unwrap() else {
                continue;
            };
            let said: Value = serde_json::from_str(&text).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            match said["method"].as_str() {
                Some("Network.requestWillBeSent") => {
                    self.requests.push(text(&said["params"]["request"]["url"]));
                }
                Some("Log.entryAdded" | "Runtime.exceptionThrown") => {
                    self.complaints.push(said["params"].to_string());
                }
                _ => {}
            }
            if said["id"] == self.sent {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].clone();
            }
        }
    }

    /// The value of an expression on the page.
    async fn look(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", parameters).await;
        assert!(
            result.get("exceptionDetails").is_none(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression has a value that is not empty.
    async fn until(&mut self, expression: &str) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let value = self.look(expression).await;
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" {
                return value;
            }
            if tokio::time::Instant::now() > until {
                let page = self.look("document.body.innerText").await;
                panic!("never: {expression}; {:?}\n{page}", self.complaints);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks on what a selector finds, once it is there.
    async fn click(&mut self, selector: &str) {
        let click = format!(
            "(() => {{ const it = document.querySelector({selector:?}); it?.click(); return !!it }})()"
        );
        self.until(&click).await;
    }
}

/// Where the browser listens; it writes that into its profile.
async fn devtools(profile: &Path) -> String {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(profile.join("DevToolsActivePort"));
        if let Some((port, path)) = text.unwrap_or_default().split_once('\n') {
            return format!("ws://127.0.0.1:{port}{}", path.trim());
        }
        let late = tokio::time::Instant::now() > until;
        assert!(!late, "Chromium does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn docs_load_from_here_alone_and_creating_a_group_can_be_tried_out() {
    let scene = Scene::new().await;
    let mut browser = Browser::start().await;
    let page = json!({ "url": scene.url("/docs") });
    browser.call("Page.navigate", page).await;
    let block = "#operations-Groups-CreateGroup";
    browser
        .click(&format!("{block} .opblock-summary-control"))
        .await;
    browser.click(&format!("{block} .try-out__btn")).await;
    // As a person types and goes on: the page listens to both events.
    let fill = "(() => {
        const field = document.querySelector('#operations-Groups-CreateGroup input[placeholder=session]');
        if (!field) return false;
        const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
        set.call(field, 'default');
        field.dispatchEvent(new Event('input', { bubbles: true }));
        field.dispatchEvent(new FocusEvent('focusout', { bubbles: true }));
        return true;
    })()";
    browser.until(fill).await;
    browser.click(&format!("{block} .execute")).await;
    let response = format!(
        "document.querySelector('{block} .live-responses-table .response .response-col_status')?.innerText"
    );
    let status = browser.until(&response).await;
    let shown = browser
        .look(&format!(
            "document.querySelector('{block} .live-responses-table').innerText"
        ))
        .await;
    assert!(
        status.as_str().unwrap().starts_with("201"),
        "{status}: {shown}"
    );

    let groups = scene
        .send("GET", "/api/default/groups", &Value::Null)
        .await
        .json();
    assert_eq!(groups[0]["subject"], "Group name", "{groups}");
    let here = scene.url("/");
    let elsewhere: Vec<_> = browser
        .requests
        .iter()
        .filter(|url| !url.starts_with(&here) && !url.starts_with("data:"))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(browser.requests.len() > 4, "{:?}", browser.requests);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
