//! A broker that is short of memory takes no messages: the worker waits for it, quietly.

mod own_node {
    use std::time::{Duration, Instant};

    use groupmq_test_support::rabbitmq::{Options, RabbitMq};
    use groupmq_test_support::worker::{Worker, store_in};

    use crate::cli::run;
    use crate::scene::{PATIENCE, Scene, effects, options, subjects};

    const COMMANDS: usize = 3_000;
    const GROUPS: usize = 20;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_memory_alarm_stops_the_flow_and_costs_nothing() {
        let broker = RabbitMq::start(Options::default()).await.unwrap();
        let scene = Scene::at(&broker.url(), |options| {
            // Shorter than the alarm: a blocked connection is neither dead nor late.
            let options = options.set("amqp.heartbeat", "1s");
            let options = options.set("amqp.confirm_timeout", "2s");
            // So that there is still something to do when the alarm comes: on a busy machine, the
            // command that raises it takes seconds.
            options.set("engine.sandbox.faults.default.delay", "80ms")
        })
        .await;
        let groups = scene.groups(GROUPS).await;
        let watermark = async |share: &str| {
            let command = ["set_vm_memory_high_watermark", share];
            broker.ctl(&command).await.unwrap();
        };
        let alarm = async {
            scene
                .producer
                .answered(GROUPS + 300, PATIENCE)
                .await
                .unwrap();
            watermark("0.000001").await;
            let begun = Instant::now();
            while !scene.worker.log().contains("the broker blocks publishing") {
                assert!(begun.elapsed() < PATIENCE, "nothing is said of the alarm");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (before, used) = (
                scene.producer.seen().answered(),
                scene.worker.processor_time(),
            );
            tokio::time::sleep(Duration::from_secs(8)).await;
            let used = scene
                .worker
                .processor_time()
                .unwrap()
                .saturating_sub(used.unwrap());
            let more = scene.producer.seen().answered() - before;
            println!("8 s of alarm: {used:?} of processor time, {more} answers");
            assert!(used < Duration::from_secs(1), "{used:?}");
            assert!(more < 50, "{more} answers during the alarm");
            let (status, _) = scene.worker.get("/livez").await.unwrap();
            assert_eq!(status, 200);
            let (status, why) = scene.worker.get("/readyz").await.unwrap();
            assert_eq!(status, 503, "{why}");
            assert!(why.contains("the broker blocks publishing"), "{why}");
            watermark("0.4").await;
            Instant::now()
        };
        let commands = subjects(&groups, "s", COMMANDS);
        let (sent, lifted) = tokio::join!(scene.producer.send_all(commands), alarm);
        sent.unwrap();
        let all = GROUPS + COMMANDS;
        scene
            .producer
            .answered(all, Duration::from_mins(2))
            .await
            .unwrap();
        println!("all answered {:?} after the alarm", lifted.elapsed());
        let came = |seen: &_| (effects(seen, "s-") == COMMANDS).then_some(());
        scene.producer.until(PATIENCE, came).await.unwrap();
        let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
        let mut lines = metrics.lines();
        let blocked = lines.find_map(|it| it.strip_prefix("groupmq_broker_blocked_seconds_total "));
        let blocked: u64 = blocked.unwrap().parse().unwrap();
        assert!(blocked >= 8, "{blocked} s of it are counted");
        let (status, why) = scene.worker.get("/readyz").await.unwrap();
        assert_eq!(status, 200, "{why}");
        let log = scene.worker.log();
        assert!(log.contains("the broker accepts messages again"));
        assert_eq!(
            log.matches("link to the broker is down").count(),
            0,
            "{log}"
        );
        assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    }

    /// Waits until `/readyz` of a process answers so, and never well before it is to.
    async fn until_blocked(worker: &Worker, never_ready: bool) {
        let begun = Instant::now();
        loop {
            // It does not listen yet.
            if let Ok((status, why)) = worker.get("/readyz").await {
                if why.contains(BLOCKED) {
                    assert_eq!(status, 503, "{why}");
                    return;
                }
                assert!(!(never_ready && status == 200), "ready during the alarm");
            }
            assert!(begun.elapsed() < PATIENCE, "{}", worker.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    const BLOCKED: &str = "the broker blocks publishing: it is short of memory or disk";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn during_an_alarm_no_process_is_ready_be_it_idle_just_started_or_a_gateway() {
        let broker = RabbitMq::start(Options::default().plugin("rabbitmq_sharding"))
            .await
            .unwrap();
        let prefix = groupmq_test_support::prefix();
        let folder = tempfile::tempdir().unwrap();
        let commands = options(&broker.url(), &prefix).set("store.url", store_in(folder.path()));
        let gateway = || {
            let address = groupmq_test_support::free_address();
            commands
                .clone()
                .set("roles", "gateway")
                .set("gateway.listen", address.to_string())
        };
        let idle = [
            Worker::start(&commands).await.unwrap(),
            Worker::start(&gateway()).await.unwrap(),
        ];
        // More than any disk has; and then memory.
        let alarms = [
            (
                ["set_disk_free_limit", "1000000GB"],
                ["set_disk_free_limit", "1MB"],
            ),
            (
                ["set_vm_memory_high_watermark", "0.000001"],
                ["set_vm_memory_high_watermark", "0.4"],
            ),
        ];
        for (raise, lift) in alarms {
            broker.ctl(&raise).await.unwrap();
            for worker in &idle {
                until_blocked(worker, false).await;
            }
            let fresh = [&commands, &gateway()].map(|it| Worker::spawn(it).unwrap());
            for worker in &fresh {
                until_blocked(worker, true).await;
                let (_, metrics) = worker.get("/metrics").await.unwrap();
                assert!(metrics.contains("groupmq_broker_blocked 1"), "{metrics}");
                let (status, _) = worker.get("/livez").await.unwrap();
                assert_eq!(status, 200);
            }
            let ran = run(&commands, &["doctor"]).await;
            assert_eq!(ran.code, 1, "{ran:?}");
            assert!(ran.out.contains("FAIL  alarms"), "{ran:?}");
            broker.ctl(&lift).await.unwrap();
            let [mut first, mut second] = fresh;
            for worker in [&mut first, &mut second] {
                worker.until_ready(PATIENCE).await.unwrap();
                assert!(worker.log().contains("the broker accepts messages again"));
            }
            for worker in &idle {
                let begun = Instant::now();
                while worker.get("/readyz").await.unwrap().0 != 200 {
                    assert!(begun.elapsed() < PATIENCE, "{}", worker.log());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        // What was asked in between has come to nobody.
        let depths = broker.queue_depths().await.unwrap();
        assert!(depths.values().all(|depth| *depth == 0), "{depths:?}");
    }
}
