//! `topology show` and `apply`.

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;

use super::{alone, run};
use crate::scene::options;

#[tokio::test]
async fn topology_is_shown_without_a_broker_and_applied_as_often_as_one_likes() {
    let shown = run(&alone(), &["topology", "show"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    insta::assert_snapshot!("topology", shown.out);
    assert_eq!(run(&alone(), &["topology", "apply"]).await.code, 5);

    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = options(&broker.url(), &prefix);
    for _ in 0..2 {
        let applied = run(&options, &["topology", "apply"]).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        assert_eq!(applied.out.replace(&prefix, "groupmq"), shown.out);
    }
    let passive = options.set("topology.mode", "passive");
    let mut worker = Worker::start(&passive).await.unwrap();
    assert_eq!(worker.stop().await.unwrap(), 0);
}
