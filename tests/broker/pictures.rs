//! Pictures of groups: how a URL is fetched, and that no picture is kept anywhere as text.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::worker::store_in;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::scene::{PATIENCE, Scene};

const PNG: &[u8] = include_bytes!("../support/data/pictures/small.png");
const WIDE: &[u8] = include_bytes!("../support/data/pictures/wide.png");

/// How often each path was asked for.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

/// A server of pictures, and of what is none.
struct Pictures {
    address: SocketAddr,
    asked: Asked,
}

impl Pictures {
    #[expect(clippy::disallowed_methods, reason = "the tests have no lifecycle")]
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked::default();
        let router = axum::Router::new()
            .route("/{name}", get(answer))
            .with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    fn times(&self, name: &str) -> u32 {
        self.asked.lock().get(name).copied().unwrap_or_default()
    }
}

async fn answer(State(asked): State<Asked>, Path(name): Path<String>) -> Response {
    let times = {
        let mut asked = asked.lock();
        let times = asked.entry(name.clone()).or_default();
        *times += 1;
        *times
    };
    match name.as_str() {
        "good.png" => PNG.into_response(),
        "late.png" if times > 1 => PNG.into_response(),
        "late.png" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "once.png" if times == 1 => PNG.into_response(),
        "moved.png" => (StatusCode::FOUND, [(header::LOCATION, "/good.png")]).into_response(),
        "page.png" => "<!doctype html>".into_response(),
        "cut.png" => PNG[..PNG.len() / 2].into_response(),
        "wide.png" => WIDE.into_response(),
        "large.png" => [PNG, &vec![0; 5 << 20]].concat().into_response(),
        "failing.png" => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn scene() -> Scene {
    Scene::shared_with(|options| options.set("egress.allow", "127.0.0.1")).await
}

fn by_url(group: &str, url: &str) -> Value {
    json!({"groupId": group, "picture": {"url": url}})
}

#[tokio::test]
async fn a_url_is_fetched_and_what_is_no_picture_is_named() {
    let (scene, server) = (scene().await, Pictures::start().await);
    let group = scene.groups(1).await.remove(0);
    let set = async |name: &str| {
        let payload = by_url(&group, &server.url(name));
        scene.call(name, "SetGroupPicture", &payload).await
    };
    for good in ["good.png", "late.png"] {
        assert_eq!(set(good).await["result"], true, "{good}");
    }
    for (bad, why) in [
        ("none.png", "answers 404"),
        ("moved.png", "redirect (302)"),
        ("page.png", "must be a JPEG or PNG"),
        ("cut.png", "cannot be decoded"),
        ("wide.png", "4096"),
        ("large.png", "more than 4 MiB"),
    ] {
        let error = set(bad).await["error"].take();
        assert_eq!(error["code"], "INVALID_PAYLOAD", "{bad}: {error}");
        assert_eq!(error["retryable"], false, "{error}");
        let detail = &error["details"][0];
        assert_eq!(detail["path"], "/payload/picture/url", "{error}");
        assert!(detail["reason"].as_str().unwrap().contains(why), "{error}");
        // The path may be a secret.
        assert!(!error.to_string().contains(bad), "{error}");
        assert_eq!(server.times(bad), 1, "{bad}");
    }
    // A redirect is not followed.
    assert_eq!(server.times("good.png"), 1);
    let error = set("failing.png").await["error"].take();
    assert_eq!(error["code"], "ENGINE_UNAVAILABLE", "{error}");
    assert_eq!(error["retryable"], true, "{error}");
    assert!(server.times("failing.png") > 1);
}

#[tokio::test]
async fn a_private_address_is_not_fetched_from() {
    let (scene, server) = (Scene::shared().await, Pictures::start().await);
    let group = scene.groups(1).await.remove(0);
    let payload = by_url(&group, &server.url("good.png"));
    let reply = scene.call("private", "SetGroupPicture", &payload).await;
    let error = &reply["error"];
    assert_eq!(error["code"], "INVALID_PAYLOAD", "{error}");
    assert!(error.to_string().contains("egress.allow"), "{error}");
    assert_eq!(server.times("good.png"), 0);
}

#[tokio::test]
async fn a_repetition_is_answered_though_the_url_does_not_work_any_more() {
    let (scene, server) = (scene().await, Pictures::start().await);
    let group = scene.groups(1).await.remove(0);
    let payload = by_url(&group, &server.url("once.png"));
    for _ in 0..2 {
        let command = Command::new("once", "SetGroupPicture", "default", &payload);
        scene.producer.send(command).await.unwrap();
    }
    let both = |seen: &Seen| {
        let mut replies = seen.replies("once");
        replies.retain(|it| it.direct);
        (replies.len() == 2).then_some(replies)
    };
    let replies = scene.producer.until(PATIENCE, both).await.unwrap();
    for (reply, replayed) in replies.iter().zip([false, true]) {
        assert_eq!(reply.body["result"], true, "{reply:?}");
        assert_eq!(reply.body["replayed"], replayed, "{reply:?}");
    }
    assert_eq!(server.times("once.png"), 1);
}

#[tokio::test]
async fn a_picture_is_kept_nowhere_and_its_dead_letter_is_not_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let scene = Scene::shared_with(|options| options.set("store.url", store)).await;
    let dead = |arguments: &[&str]| {
        let output = scene.options.command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let group = scene.groups(1).await.remove(0);
    let data = STANDARD.encode(PNG);
    let payload = |data: &str| json!({"groupId": group, "picture": {"data": data}});
    let good = scene.call("good", "SetGroupPicture", &payload(&data)).await;
    assert_eq!(good["result"], true, "{good}");
    // Not decodable; with a prefix; for a session that there is not.
    let cut = STANDARD.encode(&PNG[..PNG.len() - 12]);
    let prefixed = format!("data:image/png;base64,{data}");
    for (id, session, data, code) in [
        ("cut", "default", &cut, "INVALID_PAYLOAD"),
        ("prefixed", "default", &prefixed, "INVALID_PAYLOAD"),
        ("nobody", "nobody", &data, "SESSION_NOT_FOUND"),
    ] {
        let command = Command::new(id, "SetGroupPicture", session, &payload(data));
        let reply = scene.producer.call(command).await.unwrap();
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(
            !reply.to_string().contains(data.get(40..).unwrap()),
            "{reply}"
        );
        let shown = dead(&["dead", "show", id]);
        assert!(shown.contains("sha256:"), "{shown}");
        assert!(shown.contains("The picture is not kept"), "{shown}");
        assert!(!shown.contains(data.get(40..).unwrap()), "{shown}");
    }
    let replayed = dead(&["dead", "replay"]);
    assert!(
        replayed.contains("0 dead letters republished"),
        "{replayed}"
    );
    assert!(
        replayed.contains("3 dead letters have lost their picture"),
        "{replayed}"
    );
    let log = scene.worker.log();
    assert!(!log.contains(data.get(..40).unwrap()), "{log}");
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let stored = std::fs::read(entry.unwrap().path()).unwrap();
        let is_there = stored.windows(40).any(|it| it == &data.as_bytes()[..40]);
        assert!(!is_there, "the store has the picture");
        files += 1;
    }
    assert!(files > 0);
}
