//! Which RabbitMQ it is: nothing that RabbitMQ has deprecated is used, and no queue is left to a
//! release's own idea of how often a message may fail.

use groupmq_test_support::rabbitmq::RabbitMq;
use serde_json::Value;

use super::scene::Scene;

#[tokio::test]
async fn every_queue_of_the_topology_says_itself_how_often_a_message_may_fail() {
    let broker = RabbitMq::shared().await.unwrap();
    let scene = Scene::shared().await;
    let all = ["list_queues", "--formatter", "json", "name", "arguments"];
    let queues: Vec<Value> = serde_json::from_str(&broker.ctl(&all).await.unwrap()).unwrap();
    let ours = queues.iter().filter(|queue| {
        let name = queue["name"].as_str().unwrap();
        name.starts_with(&format!("{}.", scene.prefix))
    });
    let mut count = 0;
    for queue in ours {
        let said = queue["arguments"].to_string();
        assert!(said.contains("x-delivery-limit"), "{queue}");
        assert!(said.contains("quorum"), "{queue}");
        count += 1;
    }
    // Commands, two kinds of dead letters, orphans, and one delay.
    assert!(count >= 5, "{count} queues in {queues:?}");
}

mod own_node {
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};

    use super::super::scene::Scene;

    #[tokio::test]
    async fn nothing_deprecated_is_used() {
        let version = RabbitMq::shared().await.unwrap().ctl(&["version"]).await;
        let major: u32 = version.unwrap().split('.').next().unwrap().parse().unwrap();
        // What is deprecated fails; RabbitMQ 3 knows no such settings.
        let mut options = Options::default();
        if major >= 4 {
            for feature in [
                "global_qos",
                "transient_nonexcl_queues",
                "queue_master_locator",
            ] {
                options = options.config(&format!("deprecated_features.permit.{feature} = false"));
            }
        }
        let broker = RabbitMq::start(options).await.unwrap();
        let scene = Scene::at(&broker.url(), |options| {
            options
                .set("roles", "commands,webhooks,gateway")
                .set("gateway.listen", "127.0.0.1:0")
                .set("gateway.keys.test.key", "a key of the test, long enough")
                .set("gateway.keys.test.sessions", "default")
                .set("gateway.keys.test.access", "write")
        })
        .await;
        scene.groups(3).await;
        scene.assert_works("on-this-version").await;
        if major >= 4 {
            let used = ["list_deprecated_features", "--used", "--formatter", "json"];
            let used = broker.ctl(&used).await.unwrap();
            assert_eq!(used.trim().replace(char::is_whitespace, ""), "[]", "{used}");
        }
        let log = broker.log();
        let complaints: Vec<_> = log.lines().filter(|it| it.contains("eprecated")).collect();
        assert!(
            complaints.iter().all(|line| !line.contains("[warning]")),
            "{complaints:?}"
        );
    }
}
