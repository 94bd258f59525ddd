//! `bench gateway` and `bench webhooks`: requests that are sent, and requests that are received.

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;
use serde_json::json;

use super::{groups, number, report, words};
use crate::cli::run;
use crate::scene::{Scene, options};

/// A gateway beside the worker; its URL.
async fn gateway(scene: &Scene) -> (Worker, String) {
    let address = groupmq_test_support::free_address();
    let options = scene.options.clone().set("roles", "gateway");
    let options = options.set("gateway.listen", address.to_string());
    let gateway = Worker::start(&options).await.unwrap();
    (gateway, format!("http://{address}"))
}

#[tokio::test]
async fn each_request_to_the_gateway_has_one_answer_and_each_answer_a_time() {
    let scene = Scene::shared().await;
    let (_gateway, url) = gateway(&scene).await;
    let arguments = words(
        "bench gateway --json --duration 1s --warm-up 200ms --groups 2 --in-flight 4 --mix SetGroupSubject,GetGroup,ListGroups",
    );
    let ran = run(&scene.options, &[&arguments[..], &["--url", &url]].concat()).await;
    let report = report(&ran);
    assert_eq!(ran.err, "", "{ran:?}");
    let counts = &report["runs"][0]["total"];
    assert_eq!(
        counts["outcomes"],
        json!({"ok": counts["sent"]}),
        "{report}"
    );
    assert_eq!(
        counts["stages"]["answer"]["count"], counts["sent"],
        "{report}"
    );
    assert_eq!(
        (&counts["lost"], &counts["unanswered"]),
        (&json!(0), &json!(0))
    );
    for command in ["SetGroupSubject", "GetGroup", "ListGroups"] {
        let sent = &report["runs"][0]["commands"][command]["sent"];
        assert!(number(sent) > 0, "{report}");
    }
    assert_eq!(groups(&scene, "left").await, 0);
}

#[tokio::test]
async fn a_gateway_whose_engine_is_unknown_gets_no_load() {
    let scene = Scene::shared().await;
    let (_gateway, url) = gateway(&scene).await;
    let broker = RabbitMq::shared().await.unwrap();
    let elsewhere = options(&broker.url(), &groupmq_test_support::prefix());
    let applied = run(&elsewhere, &["topology", "apply"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let bench = ["bench", "gateway", "--timeout", "2s", "--url"];
    let refused = run(&elsewhere, &[&bench[..], &[&url]].concat()).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    let why = "does not use this broker with the prefix";
    assert!(refused.err.contains(why), "{refused:?}");

    let nobody = format!("http://{}", groupmq_test_support::free_address());
    let silent = run(&scene.options, &[&bench[..], &[&nobody]].concat()).await;
    assert_eq!(silent.code, 1, "{silent:?}");
    assert!(silent.err.contains("no gateway answers at"), "{silent:?}");
    let unknown = ["bench", "gateway", "--mix", "ListWebhooks"];
    let unknown = run(&scene.options, &unknown).await;
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(
        unknown.err.contains("no request for ListWebhooks"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn each_event_is_delivered_once_to_each_endpoint() {
    let scene = Scene::shared_with(|options| options.set("egress.allow", "127.0.0.1")).await;
    let arguments = words(
        "bench webhooks --endpoints 3 --json --duration 1s --warm-up 200ms --groups 2 --in-flight 4 --sessions default,second",
    );
    let ran = run(&scene.options, &arguments).await;
    let report = report(&ran);
    assert_eq!(ran.err, "", "{ran:?}");
    let counts = &report["runs"][0]["total"];
    let sent = number(&counts["sent"]);
    assert!(sent > 0, "{report}");
    assert_eq!(counts["outcomes"], json!({"ok": sent}), "{report}");
    assert_eq!(
        (&counts["lost"], &counts["unanswered"]),
        (&json!(0), &json!(0))
    );
    for (stage, count) in [
        ("confirm", sent),
        ("event", sent),
        ("delivered", sent),
        ("delivery", 3 * sent),
    ] {
        assert_eq!(counts["stages"][stage]["count"], count, "{stage}: {report}");
    }
    assert!(
        report["runs"][0]["deliveriesPerSecond"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert_eq!(groups(&scene, "left").await, 0);
    let endpoints = scene.call("endpoints", "ListWebhooks", &json!({})).await;
    assert_eq!(endpoints["result"], json!([]), "{endpoints}");
}

#[tokio::test]
async fn bench_says_what_a_worker_lacks_that_delivers_nothing_to_it() {
    let scene = Scene::shared().await;
    let arguments = ["bench", "webhooks", "--endpoints", "1", "--timeout", "2s"];
    let refused = run(&scene.options, &arguments).await;
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.err.contains("egress.allow must contain 127.0.0.1"),
        "{refused:?}"
    );
    let endpoints = scene.call("endpoints", "ListWebhooks", &json!({})).await;
    assert_eq!(endpoints["result"], json!([]), "{endpoints}");
}
