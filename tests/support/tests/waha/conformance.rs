//! The stand-in for WAHA against what a real one answered and posted: each captured request is sent to it
//! in the same state, what others did is done to it, and answers and posts have to be the same but for ids
//! and times. See `data/waha-2026.2.1/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use groupmq_test_support::receiver::{Answer, Receiver};
use groupmq_test_support::waha::events::{Webhook, signature};
use groupmq_test_support::waha::{ByHand, Fault, KEY, Personality, Quirks, Waha};
use serde_json::{Value, json};

use crate::ask;
use crate::compare::{Names, differences, normal};

const ME: &str = "15550000001";
const OTHER: &str = "15550000002";
const FOLDERS: [&str; 5] = [
    "noweb-phone",
    "noweb-lid",
    "noweb-store",
    "noweb-store-lid",
    "gows-lid",
];
/// The captured group that somebody else has made.
const THEIRS: &str = "120363000000000777@g.us";

fn at(folder: &str, file: &str) -> PathBuf {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/waha-2026.2.1");
    base.join(folder).join(file)
}

fn load(folder: &str, file: &str) -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(at(folder, file)).unwrap()).unwrap()
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
            "not a member: get" => {
                self.hand("15550000002 removes the account itself (kick)", |group| {
                    group.remove(&[ME]);
                });
            }
            "WhatsApp answers 429 rate-overlimit: create" if self.has("adds the account again") => {
                self.hand("15550000002 adds the account again", |group| {
                    group.add(&[ME]);
                });
            }
            // GOWS' stand-in for WhatsApp could not break its connection.
            "stop the session" if self.personality == Personality::Noweb => {
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

    fn their_group(&mut self) {
        self.theirs = self
            .waha
            .created_by_hand(OTHER, "Theirs", &[ME, "15550000007"]);
        self.names.pair(THEIRS, &self.theirs.clone(), "group");
        self.compare_posts("others: 15550000002 makes a group with the account in it");
        self.hand("15550000002 adds 15550000008", |group| {
            group.add(&["15550000008"]);
        });
        self.hand("15550000009 joins by the link", |group| {
            group.joins("15550000009");
        });
        self.hand("15550000002 promotes 15550000007", |group| {
            group.promote("15550000007");
        });
        self.hand("15550000002 demotes 15550000007", |group| {
            group.demote("15550000007");
        });
        self.hand("15550000009 leaves", |group| group.leaves("15550000009"));
        self.hand("15550000002 removes 15550000008 (kick)", |group| {
            group.remove(&["15550000008"]);
        });
        self.hand("15550000002 renames the group", |group| {
            group.subject("Theirs, renamed");
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
            group.announce(true);
        });
        self.hand("15550000002 sets \"only admins write\" off", |group| {
            group.announce(false);
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
        self.until_working(note).await;
        let asked = &captured["request"];
        let method = asked["method"].as_str().unwrap();
        let path = asked["path"].as_str().unwrap();
        if note == "join by link" {
            let code = asked["body"]["code"].as_str().unwrap();
            let ours = self.waha.group(&self.theirs).unwrap().invite;
            let code = code.rsplit('/').next().unwrap();
            self.names.pair(code, &ours, "code");
            // The capture's WhatsApp lets in who was removed; the real one answers 405 (`FEATURES.md`, 5).
            let theirs = self.theirs.clone();
            assert!(self.waha.by_hand(&theirs, |group| group.forgives(ME)));
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
        self.differ(note, &theirs, &ours);
        self.compare_posts(&format!("{method} {path} ({note})"));
    }

    /// A session that starts works a moment later.
    async fn until_working(&self, note: &str) {
        let statuses = || {
            let posts = self.waha.held_posts();
            let statuses = posts.iter().filter(|it| it["event"] == "session.status");
            statuses.count()
        };
        while note == "the session, working" && statuses() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
            let same = ours.iter().position(|it| *it == wanted);
            let event = |it: &Value| it["event"] == wanted["event"];
            match same.or_else(|| ours.iter().position(event)) {
                Some(found) => self.differ(cause, &wanted, &ours.remove(found)),
                None => self.differ(cause, &wanted, &Value::Null),
            }
        }
        let noweb = self.personality == Personality::Noweb;
        ours.retain(|post| !(noweb && is_of_a_list(post)));
        for post in ours {
            self.differ(cause, &Value::Null, &post);
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
            let of = |all: &[Value]| all.get(n).cloned().unwrap_or_default();
            self.differ(&format!("status {n}"), &of(&captured), &of(&ours));
        }
    }

    /// Keeps what differs, by where it stands.
    fn differ(&mut self, what: &str, captured: &Value, ours: &Value) {
        let mut found = Vec::new();
        differences("", captured, ours, &mut found);
        let found = found.iter().map(|found| format!("{what}{found}"));
        self.differences.extend(found);
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

/// The text of a file without the blanks between its values, as WAHA signs it.
fn compact(folder: &str, file: &str) -> String {
    let text = fs::read_to_string(at(folder, file)).unwrap();
    let (mut quoted, mut escaped) = (false, false);
    let stays = |c: &char| {
        let stays = quoted || !c.is_whitespace();
        if *c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = *c == '\\' && !escaped;
        stays
    };
    text.chars().filter(stays).collect()
}

#[test]
fn captured_posts_are_signed_as_the_stand_in_signs() {
    for folder in FOLDERS {
        let mut signed = 0;
        for post in compact(folder, "webhooks.json")
            .split("{\"cause\":")
            .skip(1)
        {
            let (head, body) = post.split_once(",\"body\":").unwrap();
            let body = body.trim_end_matches([',', ']']).strip_suffix('}').unwrap();
            let wanted = format!(
                "\"x-webhook-hmac\":\"{}\"",
                signature("shared-hmac-key", body)
            );
            assert!(head.contains(&wanted), "{head}\n{body}");
            signed += 1;
        }
        assert_eq!(signed, load(folder, "webhooks.json").len());
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
