//! `SetWebhook` and its like through a real worker: what a reply says is so on the broker.
//!
//! The worker has the role `commands` alone, so what is collected for an endpoint stays in its queue.

use std::time::{Duration, Instant};

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use serde_json::{Value, json};

use super::queues::{Queues, Taken};
use super::scene::{PATIENCE, Scene, effects};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const HMAC_KEY: &str = "hunter2-the-key";
const TOKEN: &str = "hunter2-the-token";

/// A worker that sends nothing, and the way to its queues.
struct Hooks {
    scene: Scene,
    queues: Queues,
}

impl Hooks {
    async fn new(store: Option<&str>) -> Self {
        let url = RabbitMq::shared().await.unwrap().url();
        let scene = Scene::shared_with(|options| {
            let options = options.set("roles", "commands").set("log.filter", "debug");
            match store {
                Some(url) => options.set("store.url", url),
                None => options,
            }
        })
        .await;
        let queues = Queues::connect(&url).await;
        Self { scene, queues }
    }

    fn queue(&self, name: &str) -> String {
        format!("{}.webhook.{name}", self.scene.prefix)
    }

    /// What an endpoint's queue has collected, of which there is so much at least.
    async fn collected(&self, name: &str, count: usize) -> Vec<Taken> {
        let begun = Instant::now();
        let mut collected = self.queues.take(&self.queue(name)).await;
        while collected.len() < count {
            assert!(begun.elapsed() < PATIENCE, "only {collected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            collected.extend(self.queues.take(&self.queue(name)).await);
        }
        collected
    }

    async fn call(&self, id: &str, command_type: &str, session: &str, payload: &Value) -> Value {
        let command = Command::new(id, command_type, session, payload);
        self.scene.producer.call(command).await.unwrap()
    }

    /// A command of the session `default` that has to be done.
    async fn done(&self, id: &str, command_type: &str, payload: &Value) -> Value {
        let reply = self.call(id, command_type, "default", payload).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        reply["result"].clone()
    }

    /// The endpoints of `default`, asked for the nth time.
    async fn listed(&self, n: usize) -> Value {
        let id = format!("list-{n}");
        self.done(&id, "ListWebhooks", &json!({})).await
    }

    /// A group of the accounts of `default` and `second`: both hear of it, twice each. Returns once
    /// the broker has all of that.
    async fn group(&self, id: &str) {
        let payload = json!({"name": id, "participants": ["15550000002@c.us"]});
        self.done(id, "CreateGroup", &payload).await;
        let told = |seen: &Seen| (effects(seen, id) == 4).then_some(());
        self.scene.producer.until(PATIENCE, told).await.unwrap();
    }
}

fn endpoint(events: &[&str]) -> Value {
    json!({
        "id": "orders", "url": "http://127.0.0.1:9/", "events": events, "secrets": [SECRET],
        "hmac": {"key": HMAC_KEY}, "customHeaders": [{"name": "Authorization", "value": TOKEN}],
    })
}

fn of(taken: &[Taken]) -> Vec<(&str, &str)> {
    let told = |it: &Taken| (it.body["session"].clone(), it.body["event"].clone());
    let same = |it: &&Taken| told(it).1 == it.kind.as_str() && it.body["id"] == it.id.as_str();
    assert_eq!(taken.iter().filter(same).count(), taken.len(), "{taken:?}");
    taken
        .iter()
        .map(|it| {
            let session = it.body["session"].as_str().unwrap();
            (session, it.kind.as_str())
        })
        .collect()
}

#[tokio::test]
async fn what_a_reply_says_about_an_endpoint_is_so_when_it_is_read() {
    let hooks = Hooks::new(None).await;
    a_life_of_an_endpoint(&hooks).await;
    // The answers, on either way, and the log at its most talkative.
    let log = hooks.scene.worker.log();
    for id in ["set", "list-1", "filter", "test", "remove", "drop"] {
        for reply in hooks.scene.producer.seen().replies(id) {
            assert_hidden(&reply.body.to_string());
        }
    }
    assert_hidden(&log);
    assert!(log.contains("command answered"), "nothing was logged");
}

fn assert_hidden(text: &str) {
    for secret in [SECRET, HMAC_KEY, TOKEN] {
        assert!(!text.contains(secret), "{secret} is told:\n{text}");
    }
}

#[tokio::test]
async fn the_same_with_postgresql() {
    let database = Postgres::shared().unwrap().database().unwrap();
    a_life_of_an_endpoint(&Hooks::new(Some(&database.url)).await).await;
}

async fn a_life_of_an_endpoint(hooks: &Hooks) {
    let set = hooks
        .done("set", "SetWebhook", &endpoint(&["group.join"]))
        .await;
    assert_eq!(set["id"], "default.orders");
    assert_eq!(set["state"], "active");
    assert_eq!(set["customHeaders"], json!(["Authorization"]));
    // Bound by now: the events of its own session, and none of another one's.
    hooks.group("one").await;
    let collected = hooks.collected("default.orders", 1).await;
    assert_eq!(of(&collected), [("default", "group.join")]);
    let listed = hooks.listed(1).await;
    assert_eq!(listed, json!([set]));

    let changed = endpoint(&["group.v2.join", "webhook.*"]);
    hooks.done("filter", "SetWebhook", &changed).await;
    hooks.group("two").await;
    let collected = hooks.collected("default.orders", 1).await;
    assert_eq!(of(&collected), [("default", "group.v2.join")]);

    let tested = hooks
        .done("test", "TestWebhook", &json!({"id": "orders"}))
        .await;
    let collected = hooks.collected("default.orders", 1).await;
    assert_eq!(of(&collected), [("default", "webhook.test")]);
    assert_eq!(tested["eventId"], collected[0].id.as_str());

    hooks
        .done("remove", "RemoveWebhook", &json!({"id": "orders"}))
        .await;
    let going = hooks.listed(2).await;
    assert_eq!(going[0]["state"], "removing");
    hooks.group("three").await;
    assert_eq!(hooks.collected("default.orders", 0).await.len(), 0);

    let drop = json!({"id": "orders", "discard": true});
    assert!(hooks.queues.has(&hooks.queue("default.orders")).await);
    assert_eq!(hooks.done("drop", "RemoveWebhook", &drop).await, true);
    assert!(!hooks.queues.has(&hooks.queue("default.orders")).await);
    assert_eq!(hooks.listed(3).await, json!([]));
    assert_eq!(hooks.done("drop-2", "RemoveWebhook", &drop).await, true);
}

#[tokio::test]
async fn a_session_neither_touches_nor_hears_another_ones_endpoints() {
    let hooks = Hooks::new(None).await;
    let payload = endpoint(&["*"]);
    let made = hooks.call("second", "SetWebhook", "second", &payload).await;
    assert_eq!(made["result"]["id"], "second.orders", "{made}");

    let mut listening = endpoint(&["*"]);
    listening["sessions"] = json!(["second"]);
    let mut elsewhere = Command::new("elsewhere", "SetWebhook", "second", &payload);
    "default".clone_into(&mut elsewhere.session);
    for (code, command) in [
        (
            "INVALID_PAYLOAD",
            Command::new("sessions", "SetWebhook", "default", &listening),
        ),
        (
            "INVALID_PAYLOAD",
            Command::new(
                "dot",
                "RemoveWebhook",
                "default",
                &json!({"id": "second.orders"}),
            ),
        ),
        ("SESSION_MISMATCH", elsewhere),
        (
            "WEBHOOK_NOT_FOUND",
            Command::new("other", "TestWebhook", "default", &json!({"id": "orders"})),
        ),
    ] {
        let name = command.correlation_id.clone();
        let reply = hooks.scene.producer.call(command).await.unwrap();
        assert_eq!(reply["error"]["code"], code, "{name}: {reply}");
    }
    let discard = json!({"id": "orders", "discard": true});
    hooks.done("discard", "RemoveWebhook", &discard).await;
    assert_eq!(hooks.listed(4).await, json!([]));

    hooks.group("one").await;
    let collected = hooks.collected("second.orders", 2).await;
    assert_eq!(
        of(&collected),
        [("second", "group.v2.join"), ("second", "group.join")]
    );
    // An endpoint that is not there is an answer; what nobody may ask is kept.
    let letters = hooks.scene.producer.dead_letters_of(3).await.unwrap();
    let mut dead: Vec<_> = letters
        .iter()
        .map(|it| it.correlation_id.as_str())
        .collect();
    dead.sort_unstable();
    assert_eq!(dead, ["dot", "elsewhere", "sessions"]);
}

#[tokio::test]
async fn a_command_that_comes_again_changes_nothing_and_its_test_is_recognisable() {
    let hooks = Hooks::new(None).await;
    let first = hooks.done("set", "SetWebhook", &endpoint(&["*"])).await;
    for _ in 0..2 {
        hooks
            .done("test", "TestWebhook", &json!({"id": "orders"}))
            .await;
    }
    // The second reply may be the first one, seen once more; the queue tells.
    let tests = hooks.scene.producer.until(PATIENCE, |seen| {
        let replies = seen.replies("test");
        (replies.iter().filter(|reply| reply.direct).count() >= 2).then_some(replies)
    });
    let replies = tests.await.unwrap();
    assert!(replies.iter().any(|reply| reply.body["replayed"] == true));
    let collected = hooks.collected("default.orders", 2).await;
    assert_eq!(of(&collected), [("default", "webhook.test"); 2]);
    assert_eq!(collected[0].id, collected[1].id);
    assert_eq!(collected[0].body, collected[1].body);

    let discard = json!({"id": "orders", "discard": true});
    hooks.done("drop", "RemoveWebhook", &discard).await;
    let same = Command {
        correlation_id: "set-again".to_owned(),
        ..Command::new("set", "SetWebhook", "default", &endpoint(&["*"]))
    };
    let again = hooks.scene.producer.call(same).await.unwrap();
    assert_eq!(again["replayed"], true, "{again}");
    assert_eq!(again["result"], first);
    assert_eq!(hooks.listed(5).await, json!([]));
    let other = Command {
        correlation_id: "reused".to_owned(),
        ..Command::new("set", "SetWebhook", "default", &endpoint(&["group.join"]))
    };
    let reused = hooks.scene.producer.call(other).await.unwrap();
    assert_eq!(reused["error"]["code"], "ID_REUSED", "{reused}");
}
