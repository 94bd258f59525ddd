//! Parts of the topology that somebody made with other arguments than groupmq's.

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, store_in};
use tempfile::TempDir;

use super::wrong;
use crate::cli::run;
use crate::queues::Queues;
use crate::scene::options;

/// Everything is made, with two shards and an endpoint, and nobody runs.
async fn made(folder: &TempDir, prefix: &str) -> Options {
    let url = RabbitMq::shared().await.unwrap().url();
    let file = folder.path().join("groupmq.toml");
    let endpoint = "[[webhooks]]\nid = \"audit\"\nurl = \"https://example.com/hooks\"\n";
    std::fs::write(&file, endpoint).unwrap();
    let options = options(&url, prefix)
        .set("store.url", store_in(folder.path()))
        .set("topology.shards", "2")
        .file(&file);
    assert_eq!(run(&options, &["topology", "apply"]).await.code, 0);
    options
}

/// `doctor` names the part, in the broker's words, and says what to do.
async fn is_named(options: &Options, check: &str, part: &str) {
    let (code, name, finding) = wrong(options).await;
    assert_eq!((code, name.as_str()), (1, check), "{part}: {finding}");
    for words in [part, "PRECONDITION_FAILED", "groupmq topology show"] {
        assert!(finding.contains(words), "{part}: {finding}");
    }
}

#[tokio::test]
async fn a_queue_or_exchange_with_other_arguments_is_named_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = made(&folder, &prefix).await;
    let queues = Queues::connect(&RabbitMq::shared().await.unwrap().url()).await;
    for (end, check) in [
        ("commands.0", "topology"),
        ("delay.1s", "topology"),
        ("dead.commands", "topology"),
        ("dead.webhooks", "topology"),
        ("orphan", "topology"),
        ("presence", "topology"),
        ("installation", "identity"),
        ("webhook.audit", "webhooks"),
    ] {
        let queue = format!("{prefix}.{end}");
        queues.remake_as_classic(&queue).await;
        is_named(&options, check, &queue).await;
        // It was only looked at.
        assert!(queues.has(&queue).await, "{queue}");
        queues.delete(&queue).await;
        let applied = run(&options, &["topology", "apply"]).await;
        assert_eq!(applied.code, 0, "{end}: {applied:?}");
    }
    for end in [
        "commands",
        "commands.shards",
        "events",
        "return",
        "delay.1s",
    ] {
        let exchange = format!("{prefix}.{end}");
        queues.remake_as_headers(&exchange).await;
        is_named(&options, "topology", &exchange).await;
        queues.delete_exchange(&exchange).await;
        let applied = run(&options, &["topology", "apply"]).await;
        assert_eq!(applied.code, 0, "{end}: {applied:?}");
    }
    let well = run(&options, &["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
}

#[tokio::test]
async fn a_user_who_may_not_declare_learns_that_nothing_could_be_compared() {
    let broker = RabbitMq::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = made(&folder, &prefix).await;
    broker.ctl(&["add_user", &prefix, "secret"]).await.unwrap();
    let user = options.set("amqp.url", broker.url_as(&prefix, "secret", "/"));
    let allowed = [
        "set_permissions",
        &prefix,
        r"\.installation$|^amq\.gen",
        ".*",
        ".*",
    ];
    broker.ctl(&allowed).await.unwrap();
    let well = run(&user, &["doctor"]).await;
    println!("{}", well.out);
    assert_eq!(well.code, 0, "{well:?}");
    for line in ["topology", "webhooks"] {
        let line = well.out.lines().find(|it| it.contains(line)).unwrap();
        assert!(line.contains("could not be compared"), "{line}");
    }
    broker.ctl(&["delete_user", &prefix]).await.unwrap();
}
