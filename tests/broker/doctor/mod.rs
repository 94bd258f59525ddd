//! `groupmq doctor`: all is well, and each thing that can be wrong.

mod arguments;

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, store_in};
use serde_json::Value;

use super::cli::run;
use super::queues::Queues;
use super::scene::{Scene, options};

/// The one thing that `doctor` finds wrong: its exit code, the thing, and what it says.
pub(super) async fn wrong(options: &Options) -> (i32, String, String) {
    let ran = run(options, &["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    let checks = report["checks"].as_array().unwrap().iter();
    let wrong: Vec<_> = checks.filter(|check| check["ok"] == false).collect();
    assert_eq!(wrong.len(), 1, "{report}");
    assert_eq!(report["healthy"], false);
    let text = |field: &str| wrong[0][field].as_str().unwrap_or_default().to_owned();
    println!("{}: {}", text("name"), text("finding"));
    (ran.code, text("name"), text("finding"))
}

#[tokio::test]
async fn doctor_finds_a_running_worker_in_good_health() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let scene = Scene::shared_with(|options| options.set("store.url", store)).await;
    let well = run(&scene.options, &["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    // Whichever version it is.
    let (before, after) = well.out.split_once("RabbitMQ ").unwrap();
    let (version, after) = after.split_once(": ").unwrap();
    assert!(
        version.starts_with(|c: char| c.is_ascii_digit()),
        "{version}"
    );
    insta::assert_snapshot!("doctor", format!("{before}RabbitMQ: {after}"));
}

#[tokio::test]
async fn doctor_names_what_is_wrong_and_what_to_do() {
    let broker = RabbitMq::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prefix = groupmq_test_support::prefix();
    let well = options(&broker.url(), &prefix).set("store.url", store_in(folder.path()));

    let nowhere = "amqp://guest:hunter2@127.0.0.1:1/%2f";
    let (code, name, finding) = wrong(&well.clone().set("amqp.url", nowhere)).await;
    assert_eq!((code, name.as_str()), (5, "broker"), "{finding}");
    assert!(finding.contains("amqp.url"), "{finding}");
    assert!(!finding.contains("hunter2"), "{finding}");
    assert_eq!(finding.matches("refused").count(), 1, "{finding}");

    let (code, name, finding) = wrong(&well).await;
    assert_eq!((code, name.as_str()), (1, "topology"), "{finding}");
    assert!(finding.contains("groupmq topology apply"), "{finding}");

    assert_eq!(run(&well, &["topology", "apply"]).await.code, 0);
    for store in ["sqlite:/nowhere/store.db", "sqlite:/proc/version"] {
        let (code, name, finding) = wrong(&well.clone().set("store.url", store)).await;
        assert_eq!((code, name.as_str()), (1, "store"), "{finding}");
        assert!(finding.contains("store.url"), "{finding}");
    }
}

#[tokio::test]
async fn doctor_names_endpoints_that_are_not_in_place_until_topology_apply_has_put_them_there() {
    let broker = RabbitMq::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prefix = groupmq_test_support::prefix();
    let alone = options(&broker.url(), &prefix).set("store.url", store_in(folder.path()));
    assert_eq!(run(&alone, &["topology", "apply"]).await.code, 0);
    let file = folder.path().join("groupmq.toml");
    let endpoint = "[[webhooks]]\nid = \"audit\"\nurl = \"https://example.com/hooks\"\n";
    std::fs::write(&file, endpoint).unwrap();
    let declared = alone.file(&file);

    let (code, name, finding) = wrong(&declared).await;
    assert_eq!((code, name.as_str()), (1, "webhooks"), "{finding}");
    assert!(
        finding.contains("without queue or bindings: audit."),
        "{finding}"
    );
    assert!(finding.contains("groupmq topology apply"), "{finding}");
    assert_eq!(run(&declared, &["topology", "apply"]).await.code, 0);
    let well = run(&declared, &["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    assert!(
        well.out
            .contains("all endpoints have their queues and bindings (1)"),
        "{well:?}"
    );

    // The store says so still, but the broker has forgotten.
    let queues = Queues::connect(&broker.url()).await;
    queues.delete(&format!("{prefix}.webhook.audit")).await;
    let (code, name, finding) = wrong(&declared).await;
    assert_eq!((code, name.as_str()), (1, "webhooks"), "{finding}");
}

#[tokio::test]
async fn doctor_tries_out_what_the_user_may_do() {
    let broker = RabbitMq::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prefix = groupmq_test_support::prefix();
    let well = options(&broker.url(), &prefix).set("store.url", store_in(folder.path()));
    assert_eq!(run(&well, &["topology", "apply"]).await.code, 0);
    broker.ctl(&["add_user", &prefix, "secret"]).await.unwrap();
    let user = well.set("amqp.url", broker.url_as(&prefix, "secret", "/"));
    let no_default = format!("^{prefix}");
    let only_dead = format!(r"^amq\.default$|^{prefix}\.dead");
    for (write, read) in [(&*no_default, ".*"), (&only_dead, ".*"), (".*", "^$")] {
        let allowed = ["set_permissions", &prefix, ".*", write, read];
        broker.ctl(&allowed).await.unwrap();
        let (code, name, finding) = wrong(&user).await;
        assert_eq!((code, name.as_str()), (1, "permissions"), "{finding}");
        assert!(finding.contains("(403)"), "{finding}");
    }
    broker.ctl(&["delete_user", &prefix]).await.unwrap();
}
