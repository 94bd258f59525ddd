//! `webhooks`: endpoints without a worker, and deliveries once more.

use std::sync::Arc;
use std::time::Duration;

use groupmq::clock::SystemClock;
use groupmq::config;
use groupmq::contract::Timestamp;
use groupmq::store::Store;
use groupmq::store::deliveries::Attempt;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, store_in};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Ran, run, run_with};
use crate::queues::Queues;
use crate::scene::options;

const PAYLOAD: &str = r#"{"url":"https://audit.example.com/","events":["group.*"],
    "customHeaders":[{"name":"Authorization","value":"hunter2"}]}"#;

/// A broker with the topology, and a store; nobody works.
struct Place {
    options: Options,
    prefix: String,
    queues: Queues,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let url = RabbitMq::shared().await.unwrap().url();
        let prefix = groupmq_test_support::prefix();
        let folder = tempfile::tempdir().unwrap();
        let options = options(&url, &prefix).set("store.url", store_in(folder.path()));
        let place = Self {
            options,
            prefix,
            queues: Queues::connect(&url).await,
            folder,
        };
        let applied = run(&place.options, &["topology", "apply"]).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        place
    }

    async fn webhooks(&self, arguments: &str) -> Ran {
        let arguments: Vec<_> = arguments.split(' ').collect();
        run(&self.options, &[&["webhooks"], &arguments[..]].concat()).await
    }

    async fn ok(&self, arguments: &str) -> String {
        let ran = self.webhooks(arguments).await;
        assert_eq!(ran.code, 0, "{arguments}: {ran:?}");
        ran.out
    }

    async fn json(&self, arguments: &str) -> Value {
        let out = self.ok(&format!("{arguments} --json")).await;
        serde_json::from_str(&out).unwrap()
    }

    /// What is refused, with a word about the reason.
    async fn refused(&self, arguments: &str, word: &str) {
        let ran = self.webhooks(arguments).await;
        assert_eq!(ran.code, 2, "{arguments}: {ran:?}");
        assert!(ran.err.contains(word), "{arguments}: {ran:?}");
    }

    async fn set(&self, id: &str, payload: &str) -> Ran {
        let arguments = ["webhooks", "set", id, "--payload", payload];
        run(&self.options, &arguments).await
    }

    fn queue(&self, name: &str) -> String {
        format!("{}.webhook.{name}", self.prefix)
    }

    /// An event as the worker publishes it.
    async fn happens(&self, session: &str, event: &str) {
        let exchange = format!("{}.events", self.prefix);
        let body = json!({"id": "e", "event": event, "session": session});
        let key = format!("{session}.{event}");
        self.queues
            .publish(&exchange, &key, ("e", event), &[], &body)
            .await;
    }

    /// A delivery that was given up.
    async fn gives_up(&self, webhook: &str, id: &str, first_seen: &str) {
        let headers = [
            ("groupmq-webhook", webhook),
            ("groupmq-event", "group.join"),
            ("groupmq-fault-reason", "503 Service Unavailable"),
            ("groupmq-attempts", "12"),
            ("groupmq-first-seen", first_seen),
            ("tracestate", "kept"),
        ];
        let dead = format!("{}.dead", self.prefix);
        let body = json!({"id": id, "event": "group.join"});
        self.queues
            .publish(&dead, "webhooks", (id, "group.join"), &headers, &body)
            .await;
    }

    async fn replayed(&self, name: &str) -> Vec<String> {
        let taken = self.queues.take(&self.queue(name)).await;
        for it in &taken {
            assert_eq!(it.kind, "group.join");
            assert_eq!(it.body["id"], it.id.as_str());
            let headers: Vec<_> = it.headers.iter().collect();
            assert_eq!(headers, [(&"tracestate".to_owned(), &"kept".to_owned())]);
        }
        taken.into_iter().map(|it| it.id).collect()
    }
}

#[tokio::test]
async fn an_operator_sets_an_endpoint_pauses_it_and_has_it_go() {
    let place = Place::new().await;
    let set = place.set("audit", PAYLOAD).await;
    assert_eq!(
        (set.code, set.out.as_str()),
        (0, "audit is set; state: active\n"),
        "{set:?}"
    );
    for session in ["default", "second"] {
        place.happens(session, "group.join").await;
    }
    assert_eq!(place.queues.take(&place.queue("audit")).await.len(), 2);

    let list = place.ok("list").await;
    assert!(
        list.contains("audit ") && list.contains("1 webhook endpoints"),
        "{list}"
    );
    let shown = place.json("show audit").await;
    assert_eq!(shown["sessions"], json!(["*"]));
    assert_eq!(shown["setBy"], "operator");
    assert!(!shown.to_string().contains("whsec_") && !shown.to_string().contains("hunter2"));
    let human = place.ok("show audit").await;
    assert!(
        human.contains("https://audit.example.com/") && !human.contains("whsec_"),
        "{human}"
    );
    let revealed = place.ok("show audit --secrets").await;
    assert!(
        revealed.contains("whsec_") && revealed.contains("hunter2"),
        "{revealed}"
    );

    assert_eq!(place.json("pause audit").await["state"], "paused");
    place.happens("default", "group.join").await;
    assert_eq!(place.queues.take(&place.queue("audit")).await.len(), 1);
    assert_eq!(place.json("resume audit").await["state"], "active");

    let gone = place.ok("remove audit --discard").await;
    assert!(gone.contains("is removed"), "{gone}");
    assert!(!place.queues.has(&place.queue("audit")).await);
    assert_eq!(place.ok("list --json").await, "");
    place.refused("show audit", "groupmq webhooks list").await;
}

#[tokio::test]
async fn a_disabled_endpoint_collects_nothing_until_it_is_resumed() {
    let place = Place::new().await;
    let disabled = r#"{"url":"https://audit.example.com/","sessions":["shop-1"],"disabled":true}"#;
    let set = run_with(
        &place.options,
        &["webhooks", "set", "audit", "--payload", "-"],
        disabled,
    );
    let set = set.await;
    assert!(set.out.contains("disabled"), "{set:?}");
    place.refused("pause audit", "is disabled").await;
    place.ok("resume audit").await;
    place.happens("shop-1", "group.join").await;
    assert_eq!(place.queues.take(&place.queue("audit")).await.len(), 1);

    let going = place.ok("remove audit").await;
    assert!(going.contains("is removed after"), "{going}");
    for verb in ["pause", "resume", "test", "rotate", "replay"] {
        place
            .refused(&format!("{verb} audit"), "is being removed")
            .await;
    }
    let back = place.set("audit", disabled).await;
    assert!(back.out.contains("disabled"), "{back:?}");
}

#[tokio::test]
async fn everything_that_is_wrong_with_an_endpoint_is_named_and_no_value_is_quoted() {
    let place = Place::new().await;
    let wrong =
        r#"{"url":"ftp://hunter2","events":["message"],"sessions":["a b"],"id":"x","hunter":1}"#;
    let refused = place.set("audit", wrong).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    for path in ["/url ", "/events/0 ", "/sessions/0 ", "/id ", "/hunter "] {
        assert!(refused.err.contains(path), "{path}: {refused:?}");
    }
    assert!(!refused.err.contains("hunter2"), "{refused:?}");
    let dotted = place.set("default.audit", PAYLOAD).await;
    assert_eq!(dotted.code, 2, "{dotted:?}");
    assert_eq!(place.ok("list --json").await, "");
}

#[tokio::test]
async fn a_secret_is_rotated_unless_it_is_set() {
    let place = Place::new().await;
    place.set("audit", PAYLOAD).await;
    let before = place.json("show audit --secrets").await["secrets"].clone();
    let rotated = place.json("rotate audit --keep 1h").await;
    let after = place.json("show audit --secrets").await["secrets"].clone();
    assert_eq!(after[0]["secret"], rotated["secret"]);
    assert_eq!(after[1]["secret"], before[0]["secret"]);
    assert_eq!(after[1]["until"], rotated["earlierUntil"]);
    for _ in 0..6 {
        place.ok("rotate audit").await;
    }
    place.refused("rotate audit", "8 secrets").await;

    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let own = json!({"url": "https://own.example.com/", "secrets": [secret]}).to_string();
    place.set("own", &own).await;
    place.refused("rotate own", "its own secrets").await;
}

#[tokio::test]
async fn a_test_goes_to_one_endpoint_alone() {
    let place = Place::new().await;
    for name in ["audit", "other"] {
        place.set(name, PAYLOAD).await;
    }
    let tested = place.json("test audit").await;
    let taken = place.queues.take(&place.queue("audit")).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].body["event"], "webhook.test");
    assert_eq!(tested["eventId"], taken[0].id.as_str());
    assert_eq!(place.queues.take(&place.queue("other")).await.len(), 0);
}

#[tokio::test]
async fn what_was_given_up_is_delivered_again_as_chosen() {
    let place = Place::new().await;
    place.set("audit", PAYLOAD).await;
    place
        .gives_up("audit", "old", "2026-11-20T10:00:00.000Z")
        .await;
    place
        .gives_up("audit", "new", "2026-11-23T10:00:00.000Z")
        .await;
    place
        .gives_up("audit", "newest", "2026-11-24T10:00:00.000Z")
        .await;
    place
        .gives_up("other", "other", "2026-11-23T10:00:00.000Z")
        .await;

    let dry = place.json("replay audit --dry-run").await;
    assert_eq!((&dry["letters"], &dry["dryRun"]), (&json!(3), &json!(true)));
    assert_eq!(place.replayed("audit").await, [] as [&str; 0]);

    let range = "replay audit --since 2026-11-23T00:00:00Z --until 2026-11-24T00:00:00Z";
    assert_eq!(place.ok(range).await, "1 dead letters republished\n");
    assert_eq!(place.replayed("audit").await, ["new"]);
    assert_eq!(place.json("replay audit --event old").await["letters"], 1);
    assert_eq!(place.replayed("audit").await, ["old"]);
    place.ok("replay audit --rate 10000").await;
    assert_eq!(place.replayed("audit").await, ["newest"]);
    place
        .refused("replay other", "there is no webhook endpoint")
        .await;
    let left = place
        .queues
        .take(&format!("{}.dead.webhooks", place.prefix))
        .await;
    let left: Vec<_> = left.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(left, ["other"]);

    let wrong = place.webhooks("replay audit --since yesterday").await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

fn attempt(number: u32, outcome: &str, answer: &str) -> Attempt {
    Attempt {
        endpoint: "audit".to_owned(),
        event_id: "event-1".to_owned(),
        event: "group.join".to_owned(),
        attempt: number,
        request_id: format!("request-{number}"),
        at: Timestamp(jiff::Timestamp::from_second(1_795_000_000 + i64::from(number)).unwrap()),
        took: Duration::from_millis(120),
        outcome: outcome.to_owned(),
        status: Some(if outcome == "delivered" { 200 } else { 503 }),
        answer: Some(answer.to_owned()),
    }
}

#[tokio::test]
async fn the_log_of_deliveries_is_shown_as_chosen_and_writes_nothing_to_the_terminal() {
    let place = Place::new().await;
    let settings = config::Store {
        url: store_in(place.folder.path()).into(),
        url_file: None,
        connections: 1,
        timeout: Duration::from_secs(30),
    };
    let (store, _writer) = Store::open(&settings, Arc::new(SystemClock)).await.unwrap();
    let attempts = vec![
        attempt(1, "failed", "\u{1b}[31mred"),
        attempt(2, "delivered", "thanks"),
    ];
    store.deliveries().add(attempts).await.unwrap();

    let all = place.ok("deliveries").await;
    assert!(
        all.contains("2 attempts") && !all.contains('\u{1b}'),
        "{all}"
    );
    let failed = place.json("deliveries audit --failed").await;
    assert_eq!(failed["attempt"], 1);
    assert_eq!(failed["status"], 503);
    let latest = place.json("deliveries --event event-1 --limit 1").await;
    assert_eq!(latest["outcome"], "delivered");
    assert_eq!(place.ok("deliveries nobody --json").await, "");
}
