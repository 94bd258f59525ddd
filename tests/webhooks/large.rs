//! A delivery that the broker does not take back for a rest: it is given up, and the others are delivered.

mod own_node {
    use groupmq_test_support::announcer::Announcement;
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};
    use groupmq_test_support::receiver::Answer;
    use groupmq_test_support::worker::Worker;
    use serde_json::json;

    use crate::broker::letters;
    use crate::scene::{PATIENCE, Scene};

    const MOST: usize = 8_000;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_delivery_that_the_broker_does_not_take_for_a_rest_is_a_dead_letter_and_stops_nobody()
    {
        let broker = RabbitMq::start(Options::default()).await.unwrap();
        let mut scene = Scene::at(&broker.url(), None, |options| options).await;
        scene.endpoint("shop", "/shop", json!({})).await;
        // Each is refused once, so that it has to rest.
        let mut seen = std::collections::BTreeSet::new();
        let rule = move |delivered: &groupmq_test_support::receiver::Delivered| {
            let is_new = seen.insert(delivered.id().to_owned());
            Answer::status(if is_new { 500 } else { 200 })
        };
        scene.receiver.rule("/shop", rule);
        assert_eq!(scene.worker.stop().await.unwrap(), 0);
        let mut large = Announcement::new("default", "group.join", 0);
        large.body.extend(vec![b' '; 2 * MOST]);
        scene.announcer.publish(&[large.clone()]).await.unwrap();
        let small = scene.announcer.announce("default", "group.join", 20).await;
        let small = small.unwrap();
        // From now on, for channels that are opened from now on: RabbitMQ 3.10, then 4.
        let limit = format!(
            "application:set_env(rabbit, max_message_size, {MOST}), \
             persistent_term:put(max_message_size, {MOST})."
        );
        broker.ctl(&["eval", &limit]).await.unwrap();
        scene.worker = Worker::start(&scene.options).await.unwrap();

        let taken = scene.receiver.takes("/shop", small.len(), PATIENCE).await;
        taken.unwrap();
        let taken = scene.receiver.taken("/shop");
        assert!(small.iter().all(|event| taken.contains(&event.id)));
        let begun = std::time::Instant::now();
        let mut found = Vec::new();
        while found.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{}", scene.worker.log_tail());
            found = letters(&scene).await;
        }
        assert_eq!(found.len(), 1, "{found:?}");
        let letter = &found[0];
        assert_eq!(letter["messageId"], large.id);
        assert_eq!(letter["groupmq-webhook"], "shop");
        assert_eq!(letter["groupmq-fault-code"], "BROKER_REFUSED");
        assert_eq!(letter["body"], "", "what made it too large");
        let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
        for kind in ["webhook", "dead-letter"] {
            let given_up =
                format!("groupmq_messages_given_up_total{{kind=\"{kind}\",code=\"406\"}} 1");
            assert!(metrics.contains(&given_up), "{metrics}");
        }
    }
}
