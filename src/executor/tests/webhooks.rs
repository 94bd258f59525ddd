//! Commands about webhook endpoints: on the store, and never on the engine.

use std::time::Duration;

use serde_json::{Value, json};

use crate::contract::{CommandType, ErrorCode, NoticeName, WebhookState};
use crate::engines::Found;
use crate::executor::{Accepted, CommandOutcome, Verdict};
use crate::store::endpoints::DISCARD;

use super::scripted::{Bench, accepted};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn set(id: &str, url: &str) -> Accepted {
    let payload =
        json!({"id": "orders", "url": url, "secrets": [SECRET], "hmac": {"key": "hunter2"}});
    accepted(id, CommandType::SetWebhook, payload)
}

fn remove(id: &str, discard: bool) -> Accepted {
    let payload = json!({"id": "orders", "discard": discard});
    accepted(id, CommandType::RemoveWebhook, payload)
}

fn test(id: &str) -> Accepted {
    accepted(id, CommandType::TestWebhook, json!({"id": "orders"}))
}

fn list() -> Accepted {
    accepted("list", CommandType::ListWebhooks, json!({}))
}

async fn run(bench: &Bench, command: &Accepted) -> CommandOutcome {
    match bench.run(command).await {
        Verdict::Answered(outcome) => *outcome,
        Verdict::Deferred(deferral) => panic!("deferred: {deferral:?}"),
    }
}

fn result(outcome: &CommandOutcome) -> Value {
    let result = outcome.reply.result.as_ref();
    let result = result.unwrap_or_else(|| panic!("{:?}", outcome.reply));
    serde_json::from_str(result.get()).unwrap()
}

#[tokio::test]
async fn an_endpoint_belongs_to_the_session_that_sets_it_and_shows_no_secret() {
    let bench = Bench::new([]).await;
    let made = run(&bench, &set("1", "https://shop.example.com/")).await;
    let shown = result(&made);
    assert_eq!(shown["id"], "default.orders");
    assert_eq!(shown["sessions"], json!(["default"]));
    assert_eq!(shown["events"], json!(["*"]));
    let printed = format!("{made:?}");
    assert!(
        !printed.contains(SECRET) && !printed.contains("hunter2"),
        "{printed}"
    );
    assert_eq!(result(&run(&bench, &list()).await), json!([shown]));

    let kept = bench.endpoint("default.orders").await.unwrap();
    assert_eq!(kept.settings.secrets[0].as_str(), SECRET);
    assert_eq!(kept.secrets.len(), 1);
    let other = Accepted {
        session: "second".parse().unwrap(),
        ..list()
    };
    assert_eq!(result(&run(&bench, &other).await), json!([]));
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn a_repetition_changes_nothing_and_gets_the_first_answer() {
    let bench = Bench::new([]).await;
    let first = run(&bench, &set("1", "https://one.example.com/")).await;
    run(&bench, &set("2", "https://two.example.com/")).await;
    let again = run(&bench, &set("1", "https://one.example.com/")).await;
    assert!(again.reply.replayed);
    assert_eq!(result(&again), result(&first));
    let kept = bench.endpoint("default.orders").await.unwrap();
    assert_eq!(kept.settings.url.as_str(), "https://two.example.com/");

    let mut other = set("1", "https://three.example.com/");
    other.fingerprint = [9; 32];
    let refused = run(&bench, &other).await.reply.error.unwrap();
    assert_eq!(refused.code, ErrorCode::IdReused);
}

#[tokio::test]
async fn an_endpoint_that_goes_can_be_dropped_or_taken_back() {
    let bench = Bench::new([]).await;
    assert_eq!(result(&run(&bench, &remove("0", false)).await), json!(true));
    run(&bench, &set("1", "https://shop.example.com/")).await;
    let endpoint = async || bench.endpoint("default.orders").await.unwrap();

    assert_eq!(result(&run(&bench, &remove("2", false)).await), json!(true));
    let going = endpoint().await;
    assert_eq!((going.state, going.reason), (WebhookState::Removing, None));
    assert_eq!(result(&run(&bench, &remove("3", true)).await), json!(true));
    run(&bench, &remove("4", false)).await;
    assert_eq!(endpoint().await.reason.as_deref(), Some(DISCARD));

    run(&bench, &set("5", "https://shop.example.com/")).await;
    let back = endpoint().await;
    assert_eq!((back.state, back.reason), (WebhookState::Active, None));
}

#[tokio::test]
async fn a_test_is_one_event_however_often_it_is_sent() {
    let bench = Bench::new([]).await;
    let unknown = run(&bench, &test("0")).await;
    let error = unknown.reply.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::WebhookNotFound);
    assert!(unknown.test.is_none() && unknown.dead().is_none());

    run(&bench, &set("1", "https://shop.example.com/")).await;
    let (first, again) = (run(&bench, &test("2")).await, run(&bench, &test("2")).await);
    let event = first.test.clone().unwrap();
    assert_eq!(result(&first)["eventId"], event.id.to_string());
    assert_eq!(event.event, NoticeName::Test);
    assert_eq!(event.payload.webhook, "default.orders");
    assert!(again.reply.replayed);
    assert_eq!(again.test, first.test);
    let other = run(&bench, &test("3")).await.test.unwrap();
    assert_ne!(other.id, event.id);

    run(&bench, &remove("4", false)).await;
    let gone = run(&bench, &test("5")).await.reply.error.unwrap();
    assert_eq!(gone.code, ErrorCode::WebhookNotFound);
}

#[tokio::test]
async fn while_the_store_is_down_no_endpoint_is_set() {
    let bench = Bench::new([]).await;
    let command = set("1", "https://shop.example.com/");
    assert!(bench.run_in_outage(&command).await.is_err());
    assert!(bench.endpoint("default.orders").await.is_none());
    assert!(!run(&bench, &command).await.reply.replayed);
}

#[tokio::test]
async fn a_change_that_was_started_in_time_is_in_doubt_after_it_whatever_the_engine_knows() {
    let bench = Bench::new([]).await;
    bench.finds(Found::Nothing);
    let late = Accepted {
        expires_at: Some(bench.ago(Duration::from_secs(1))),
        ..set("1", "https://shop.example.com/")
    };
    bench.claimed_by("worker-that-died", &late).await;
    let outcome = run(&bench, &late).await;
    let code = outcome.reply.error.map(|error| error.code);
    assert_eq!((code, bench.searches()), (Some(ErrorCode::InDoubt), 0));
}
