//! Runs of `bench` that end early: what was measured until then is printed.

use groupmq_test_support::rabbitmq::RabbitMq;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Begun, answers, assert_adds_up, groups, number, report, until_loaded, words};
use crate::scene::Scene;

const ENDLESS: &str = "bench commands --json --duration 1h --warm-up 0s --groups 3 --in-flight 3 --mix SetGroupSubject";

#[tokio::test]
async fn ctrl_c_ends_a_run_with_a_report_and_without_its_groups() {
    let scene = Scene::shared().await;
    let bench = Begun::new(&scene.options, &words(ENDLESS));
    until_loaded(&scene).await;
    assert_eq!(groups(&scene, "meanwhile").await, 3);
    bench.signal(Signal::SIGINT);
    let report = report(&bench.end().await);
    let run = &report["runs"][0];
    assert_eq!(run["interrupted"], true, "{run}");
    assert_adds_up(&run["total"]);
    assert!(number(&run["total"]["sent"]) > 0, "{run}");
    assert_eq!(groups(&scene, "after").await, 0);
}

#[tokio::test]
async fn what_was_measured_is_printed_when_the_connection_is_lost() {
    let scene = Scene::shared().await;
    let broker = RabbitMq::shared().await.unwrap();
    let user = &scene.prefix;
    broker.ctl(&["add_user", user, "secret"]).await.unwrap();
    let rights = ["set_permissions", user, ".*", ".*", ".*"];
    broker.ctl(&rights).await.unwrap();
    let options = scene.options.clone();
    let options = options.set("amqp.url", broker.url_as(user, "secret", "/"));
    let bench = Begun::new(&options, &words(ENDLESS));
    until_loaded(&scene).await;
    let close = ["close_all_user_connections", user, "maintenance"];
    // RabbitMQ fails if one of them ends by itself at that moment.
    while broker.ctl(&close).await.is_err() {}
    let ran = bench.end().await;
    broker.ctl(&["delete_user", user]).await.unwrap();
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.err.contains("3 groups whose names begin with"),
        "{ran:?}"
    );
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let total = &report["runs"][0]["total"];
    let sent = number(&total["sent"]);
    assert!(sent > 0, "{report}");
    let known = answers(total) + number(&total["lost"]) + number(&total["unanswered"]);
    assert_eq!(sent, known, "{report}");
    assert_eq!(
        total["stages"]["reply"]["count"],
        answers(total),
        "{report}"
    );
}
