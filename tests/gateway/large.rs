//! A command that the broker does not take: its client is told so, and the others get their answers.

mod own_node {
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};
    use groupmq_test_support::worker::Worker;
    use serde_json::json;

    use crate::scene::{Scene, client, options};

    const OTHERS: usize = 50;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_command_that_is_too_large_for_the_broker_is_refused_and_the_others_are_answered() {
        let limit = Options::default().config("max_message_size = 8000");
        let broker = RabbitMq::start(limit).await.unwrap();
        let address = groupmq_test_support::free_address();
        let options = options(&broker.url(), &groupmq_test_support::prefix())
            .set("roles", "commands,gateway")
            .set("gateway.listen", address.to_string());
        let worker = Worker::start(&options).await.unwrap();
        let scene = Scene {
            client: client(),
            address,
            worker,
        };
        let person = |n| json!({"id": format!("4917{n:08}@c.us")});
        let crowd: Vec<_> = (0..600).map(person).collect();
        let large = json!({"name": "large", "participants": crowd});
        let large = scene.send("POST", "/api/default/groups", &large);
        let others = (0..OTHERS).map(async |n| {
            let body = json!({"name": format!("g{n}"), "participants": []});
            scene.send("POST", "/api/default/groups", &body).await
        });
        let (large, others) = tokio::join!(large, futures_util::future::join_all(others));
        large.assert_problem(503, "UNAVAILABLE");
        for answer in others {
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let groups = scene.send("GET", "/api/default/groups?limit=1", &json!(null));
        assert_eq!(groups.await.json().as_array().unwrap().len(), 1);
        let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
        let given_up = r#"groupmq_messages_given_up_total{kind="command",code="406"} 1"#;
        assert!(metrics.contains(given_up), "{metrics}");
    }
}
