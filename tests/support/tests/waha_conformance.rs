//! The stand-in for WAHA against what a real one answered and posted: each captured request is sent to it
//! in the same state, what others did is done to it, and answers and posts have to be the same but for ids
//! and times. See `data/waha-2026.2.1/README.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers included"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use groupmq_test_support::receiver::{Answer, Receiver};
use groupmq_test_support::waha::events::{Webhook, signature};
use groupmq_test_support::waha::{ByHand, Fault, KEY, Personality, Quirks, Waha};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ME: &str = "15550000001";
const OTHER: &str = "15550000002";
/// The captured group that somebody else has made.
const THEIRS: &str = "120363000000000777@g.us";

/// An answer: status, content type, body.
type Answered = (u16, Value, Value);

async fn ask(waha: &Waha, method: &str, path: &str, key: Option<&str>, body: &str) -> Answered {
    let host = waha.url().replace("http://", "");
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let key = key.map(|key| format!("x-api-key: {key}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        key.unwrap_or_default(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
    let body = match body {
        "" => Value::Null,
        body if is_json => serde_json::from_str(body).unwrap(),
        body => json!(body),
    };
    (status, json!(kind), body)
}

/// What stands for what: captured ids and codes, and those of the stand-in, by a name that they share.
#[derive(Debug, Default)]
struct Names {
    captured: BTreeMap<String, String>,
    ours: BTreeMap<String, String>,
    /// From captured to ours.
    pairs: BTreeMap<String, String>,
}

impl Names {
    fn pair(&mut self, captured: &str, ours: &str, kind: &str) {
        let name = format!("<{kind} {}>", self.captured.len());
        self.captured.insert(captured.to_owned(), name.clone());
        self.ours.insert(ours.to_owned(), name);
        self.pairs.insert(captured.to_owned(), ours.to_owned());
    }

    /// Ids and codes in a text, as the stand-in has them.
    fn translated(&self, text: &str) -> String {
        replaced(text, &self.pairs)
    }

    /// Pairs what an answer tells for the first time.
    fn learn(&mut self, captured: &Value, ours: &Value) {
        for field in ["id", "JID"] {
            let both = (captured[field].as_str(), ours[field].as_str());
            if let (Some(captured), Some(ours)) = both
                && captured.ends_with("@g.us")
                && !self.pairs.contains_key(captured)
            {
                self.pair(captured, ours, "group");
            }
        }
        let code = |value: &Value| {
            let text = value.as_str()?;
            Some(text.rsplit('/').next()?.to_owned())
        };
        if let (Some(captured), Some(ours)) = (code(captured), code(ours))
            && captured.len() == 22
            && !self.pairs.contains_key(&captured)
        {
            self.pair(&captured, &ours, "code");
        }
    }
}

fn replaced(text: &str, by: &BTreeMap<String, String>) -> String {
    by.iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The same for all runs: names for ids and codes, and no times.
fn normal(value: &Value, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|it| it > 1_000_000_000) => {
            json!("<time>")
        }
        Value::String(text) if is_time(text) => json!("<time>"),
        Value::String(text) => json!(replaced(text, names)),
        Value::Array(all) => all.iter().map(|it| normal(it, names)).collect(),
        Value::Object(all) => {
            let fields = all.iter().map(|(field, value)| {
                let known = value.is_string() && value != "";
                let value = match field.as_str() {
                    "stack" | "pushName" | "TopicID" | "date" if known => json!("<text>"),
                    "date" => json!("<text>"),
                    _ => normal(value, names),
                };
                (replaced(field, names), value)
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// `2026-11-27T20:36:59Z`, or seconds as text; the year 1 is none.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let iso = bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && text.ends_with('Z');
    let seconds = bytes.len() == 10 && bytes.iter().all(u8::is_ascii_digit);
    (iso && !text.starts_with("0001")) || seconds
}

fn load(folder: &str, file: &str) -> Vec<Value> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/waha-2026.2.1");
    let text = fs::read_to_string(base.join(folder).join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// One life of a session: the captured one beside the stand-in's.
struct Life {
    waha: Waha,
    personality: Personality,
    names: Names,
    theirs: String,
    /// The posts of each cause, as captured.
    posts: BTreeMap<String, Vec<Value>>,
    /// How many of the stand-in's posts have been looked at.
    looked_at: usize,
    differences: Vec<String>,
}

impl Life {
    async fn begin(folder: &str, personality: Personality, quirks: Quirks) -> Self {
        let waha = Waha::start(personality).await.unwrap();
        waha.status("default", "STOPPED");
        waha.set(Quirks {
            core: true,
            store_waits: true,
            ..quirks
        });
        waha.hold_posts();
        let mut posts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for post in load(folder, "webhooks.json") {
            let body = post["body"].clone();
            assert_eq!(post["headers"]["x-webhook-hmac-algorithm"], "sha512");
            // Statuses are told when they change, whatever is asked meanwhile.
            let cause = if body["event"] == "session.status" {
                "statuses"
            } else {
                post["cause"].as_str().unwrap()
            };
            posts.entry(cause.to_owned()).or_default().push(body);
        }
        Self {
            waha,
            personality,
            names: Names::default(),
            theirs: String::new(),
            posts,
            looked_at: 0,
            differences: Vec::new(),
        }
    }

    /// What others do before a request, by its note.
    fn others(&mut self, note: &str) {
        match note {
            "a group where the account is a plain member" => self.their_group(),
            "not an admin, info is admins only: rename" => {
                self.hand("the group is locked", |group| group.locked(true));
            }
            "not a member: get" => self
                .hand("15550000002 removes the account itself (kick)", |group| {
                    group.remove(&[ME])
                }),
            "WhatsApp answers 429 rate-overlimit: create" if self.has("adds the account again") => {
                self.hand("15550000002 adds the account again", |group| {
                    group.add(&[ME])
                });
            }
            "stop the session" if self.has_status("428") => {
                self.waha.status("default", "STARTING");
                self.waha.status("default", "WORKING");
            }
            "session after the log out: list" => self.waha.status("default", "FAILED"),
            "the second group, again" => self.waha.store_catches_up(),
            _ => {}
        }
    }

    fn has(&self, what: &str) -> bool {
        self.posts.keys().any(|cause| cause.contains(what))
    }

    /// GOWS' stand-in for `WhatsApp` cannot break its connection.
    fn has_status(&self, _: &str) -> bool {
        self.personality == Personality::Noweb
    }

    fn their_group(&mut self) {
        self.theirs = self
            .waha
            .created_by_hand(OTHER, "Theirs", &[ME, "15550000007"]);
        self.names.pair(THEIRS, &self.theirs.clone(), "group");
        self.compare_posts("others: 15550000002 makes a group with the account in it");
        self.hand("15550000002 adds 15550000008", |group| {
            group.add(&["15550000008"])
        });
        self.hand("15550000009 joins by the link", |group| {
            group.joins("15550000009")
        });
        self.hand("15550000002 promotes 15550000007", |group| {
            group.promote("15550000007")
        });
        self.hand("15550000002 demotes 15550000007", |group| {
            group.demote("15550000007")
        });
        self.hand("15550000009 leaves", |group| group.leaves("15550000009"));
        self.hand("15550000002 removes 15550000008 (kick)", |group| {
            group.remove(&["15550000008"]);
        });
        self.hand("15550000002 renames the group", |group| {
            group.subject("Theirs, renamed")
        });
        let describe = |group: &mut ByHand<'_>| group.description("About us");
        let describes = "15550000002 describes the group";
        // The stand-in for WhatsApp under NOWEB forgot descriptions; all of them forgot the approval and
        // the new link.
        if self.personality == Personality::Noweb {
            self.told(describes, describe);
        } else {
            self.hand(describes, describe);
        }
        self.hand("15550000002 sets \"only admins write\" on", |group| {
            group.announce(true)
        });
        self.hand("15550000002 sets \"only admins write\" off", |group| {
            group.announce(false)
        });
        let edits = "15550000002 sets \"only admins edit the info\"";
        self.hand(&format!("{edits} on"), |group| group.locked(true));
        self.hand(&format!("{edits} off"), |group| group.locked(false));
        self.told("15550000002 sets the approval of new members on", |group| {
            group.approval(true);
        });
        self.told("15550000002 changes the invite link", |group| {
            group.invite("FakeFakeFakeFakeFake12");
        });
        self.waha.store_catches_up();
    }

    fn hand(&mut self, cause: &str, hand: impl FnOnce(&mut ByHand<'_>)) {
        assert!(self.waha.by_hand(&self.theirs, hand));
        self.compare_posts(&format!("others: {cause}"));
    }

    fn told(&mut self, cause: &str, hand: impl FnOnce(&mut ByHand<'_>)) {
        assert!(self.waha.only_told(&self.theirs, hand));
        self.compare_posts(&format!("others: {cause}"));
    }

    async fn request(&mut self, captured: &Value) {
        let note = captured["note"].as_str().unwrap();
        self.others(note);
        let asked = &captured["request"];
        let method = asked["method"].as_str().unwrap();
        let path = asked["path"].as_str().unwrap();
        if note == "join by link" {
            let code = asked["body"]["code"].as_str().unwrap();
            let ours = self.waha.group(&self.theirs).unwrap().invite;
            let code = code.rsplit('/').next().unwrap();
            self.names.pair(code, &ours, "code");
        }
        let ours = self.names.translated(path);
        if let Some(refusal) = note.strip_prefix("WhatsApp answers ") {
            let code = refusal.split(' ').next().unwrap().parse().unwrap();
            self.waha
                .fail(&format!("{method} {ours}"), Fault::WhatsApp(code));
        }
        let body = match &asked["body"] {
            Value::Null => String::new(),
            Value::String(broken) => broken.clone(),
            body => self.names.translated(&body.to_string()),
        };
        let key = match &asked["headers"] {
            Value::Null => Some(KEY),
            headers => headers["X-Api-Key"].as_str(),
        };
        let (status, kind, body) = ask(&self.waha, method, &ours, key, &body).await;
        self.names.learn(&captured["body"], &body);
        let ours = json!({
            "status": status, "contentType": kind, "body": normal(&body, &self.names.ours),
        });
        let theirs = json!({
            "status": captured["status"], "contentType": captured["contentType"],
            "body": normal(&captured["body"], &self.names.captured),
        });
        if ours != theirs {
            self.differences
                .push(format!("{note}\n  captured {theirs}\n  ours     {ours}"));
        }
        self.until_told(note).await;
        self.compare_posts(&format!("{method} {path} ({note})"));
    }

    /// A session that starts tells a moment later that it works.
    async fn until_told(&self, note: &str) {
        while note == "the session, working" && self.statuses() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn statuses(&self) -> usize {
        let posts = self.waha.held_posts();
        posts
            .iter()
            .filter(|it| it["event"] == "session.status")
            .count()
    }

    /// Each captured post of a cause has to be among those of the stand-in, and the other way round. Of
    /// what NOWEB posts for each list, some was not kept.
    fn compare_posts(&mut self, cause: &str) {
        let posts = self.waha.held_posts();
        let new = posts[self.looked_at..].iter();
        let mut ours: Vec<_> = new
            .filter(|post| post["event"] != "session.status")
            .map(|post| plain(post, &self.names.ours))
            .collect();
        self.looked_at = posts.len();
        let captured = self.posts.remove(cause).unwrap_or_default();
        for post in &captured {
            let wanted = plain(post, &self.names.captured);
            match ours.iter().position(|it| *it == wanted) {
                Some(found) => drop(ours.remove(found)),
                None => self
                    .differences
                    .push(format!("{cause}\n  captured {wanted}\n  ours     {ours:?}")),
            }
        }
        let noweb = self.personality == Personality::Noweb;
        ours.retain(|post| !(noweb && is_of_a_list(post)));
        for post in ours {
            self.differences
                .push(format!("{cause}\n  not captured: {post}"));
        }
    }

    /// The statuses, in their order.
    fn compare_statuses(&mut self) {
        let posts = self.waha.held_posts();
        let ours = posts.iter().filter(|it| it["event"] == "session.status");
        let ours: Vec<_> = ours.map(|it| plain(it, &self.names.ours)).collect();
        let captured = self.posts.remove("statuses").unwrap_or_default();
        let captured: Vec<_> = captured
            .iter()
            .map(|it| plain(it, &self.names.captured))
            .collect();
        for n in 0..ours.len().max(captured.len()) {
            let (ours, captured) = (ours.get(n), captured.get(n));
            if ours != captured {
                self.differences.push(format!(
                    "status {n}\n  captured {captured:?}\n  ours     {ours:?}"
                ));
            }
        }
    }

    /// Nothing differs, nothing captured is left over, and everything arrives with its signature.
    async fn end(mut self) {
        self.compare_statuses();
        assert!(
            self.differences.is_empty(),
            "{} differences:\n{}",
            self.differences.len(),
            self.differences.join("\n")
        );
        assert_eq!(self.posts.keys().collect::<Vec<_>>(), [""; 0]);
        let receiver = Receiver::start().unwrap();
        receiver.answer("/hook", Answer::status(200));
        self.waha.hook(Webhook {
            host: receiver.url("").replace("http://", ""),
            path: "/hook".to_owned(),
            key: "shared-hmac-key".to_owned(),
        });
        let count = self.waha.held_posts().len();
        let statuses = self.waha.release_posts(|_| {}).await.unwrap();
        assert_eq!(statuses, vec![200; count]);
        for post in receiver.got("/hook") {
            let body = String::from_utf8(post.body.clone()).unwrap();
            let wanted = signature("shared-hmac-key", &body);
            assert_eq!(post.header("x-webhook-hmac"), wanted);
            assert_eq!(post.header("x-webhook-hmac-algorithm"), "sha512");
            assert!(!post.header("x-webhook-request-id").is_empty());
            assert!(!post.header("x-webhook-timestamp").is_empty());
        }
    }
}

/// A post without its id.
fn plain(post: &Value, names: &BTreeMap<String, String>) -> Value {
    let mut post = normal(post, names);
    let id = post["id"].as_str().unwrap();
    assert!(id.starts_with("evt_") && id.len() == 30, "{id}");
    post["id"] = json!("<event>");
    post
}

fn is_of_a_list(post: &Value) -> bool {
    post["event"] == "group.v2.update" && !post["payload"]["_data"]["size"].is_null()
}

/// The signatures of the captured posts are of WAHA's making.
#[test]
fn captured_posts_are_signed_as_the_stand_in_signs() {
    for folder in [
        "noweb-phone",
        "noweb-lid",
        "noweb-store",
        "noweb-store-lid",
        "gows-lid",
    ] {
        for post in load(folder, "webhooks.json") {
            let captured = post["headers"]["x-webhook-hmac"].as_str().unwrap();
            assert_eq!(captured.len(), signature("shared-hmac-key", "").len());
        }
    }
}

async fn lives_as_captured(folder: &str, personality: Personality, quirks: Quirks) {
    let mut life = Life::begin(folder, personality, quirks).await;
    for request in load(folder, "http.json") {
        life.request(&request).await;
    }
    life.end().await;
}

#[tokio::test]
async fn noweb_with_phones_answers_and_posts_as_captured() {
    lives_as_captured("noweb-phone", Personality::Noweb, Quirks::default()).await;
}

#[tokio::test]
async fn noweb_with_lids_answers_and_posts_as_captured() {
    let quirks = Quirks {
        lids: true,
        ..Quirks::default()
    };
    lives_as_captured("noweb-lid", Personality::Noweb, quirks).await;
}

#[tokio::test]
async fn noweb_with_a_store_and_phones_answers_and_posts_as_captured() {
    let quirks = Quirks {
        store: true,
        ..Quirks::default()
    };
    lives_as_captured("noweb-store", Personality::Noweb, quirks).await;
}

#[tokio::test]
async fn noweb_with_a_store_and_lids_answers_and_posts_as_captured() {
    let quirks = Quirks {
        store: true,
        lids: true,
        ..Quirks::default()
    };
    lives_as_captured("noweb-store-lid", Personality::Noweb, quirks).await;
}

#[tokio::test]
async fn gows_with_lids_answers_and_posts_as_captured() {
    let quirks = Quirks {
        lids: true,
        ..Quirks::default()
    };
    lives_as_captured("gows-lid", Personality::Gows, quirks).await;
}
