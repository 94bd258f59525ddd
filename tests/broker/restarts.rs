//! The broker goes away while commands flow, and comes back: nothing is lost.

mod own_node {
    use std::time::{Duration, Instant};

    use groupmq_test_support::rabbitmq::{Options, RabbitMq};

    use crate::scene::{Scene, effects, subjects};

    const COMMANDS: usize = 5_000;
    const GROUPS: usize = 50;

    async fn five_thousand(outage: impl AsyncFnOnce(&mut RabbitMq)) {
        let mut broker = RabbitMq::start(Options::default()).await.unwrap();
        let mut scene = Scene::at(&broker.url(), |options| options).await;
        let groups = scene.groups(GROUPS).await;
        let commands = subjects(&groups, "s", COMMANDS);
        // RabbitMQ 3.10 damages a quorum queue when it is killed soon after the queue's declaration.
        tokio::time::sleep(Duration::from_secs(5)).await;

        let begun = Instant::now();
        let go_away = async {
            let some = GROUPS + COMMANDS / 5;
            scene
                .producer
                .answered(some, Duration::from_mins(2))
                .await
                .unwrap();
            outage(&mut broker).await;
            let back = Instant::now();
            scene
                .worker
                .until_ready(Duration::from_secs(30))
                .await
                .unwrap();
            println!(
                "consuming again {:?} after the broker's return",
                back.elapsed()
            );
        };
        let (sent, ()) = tokio::join!(scene.producer.send_all(commands), go_away);
        sent.unwrap();

        let all = GROUPS + COMMANDS;
        let patience = Duration::from_mins(3);
        let came = |seen: &groupmq_test_support::producer::Seen| {
            let all_came = seen.answered() == all
                && seen.answered_directly() == all
                && effects(seen, "s-") == COMMANDS;
            all_came.then_some(())
        };
        if let Err(error) = scene.producer.until(patience, came).await {
            panic!("{error:#}\n{}", broker.report().await);
        }
        println!(
            "{all} answered within {:?}: {:?}",
            begun.elapsed(),
            scene.producer.seen()
        );
        assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_that_is_stopped_and_started_costs_no_command() {
        five_thousand(async |broker| {
            broker.stop().await.unwrap();
            broker.start_again().await.unwrap();
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_that_is_killed_costs_no_command() {
        five_thousand(async |broker| {
            broker.kill().await.unwrap();
            broker.start_again().await.unwrap();
        })
        .await;
    }
}
