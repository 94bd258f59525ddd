//! A broker of three nodes, which loses the one that matters most while commands flow.

mod own_node {
    use std::cell::Cell;

    use groupmq_test_support::producer::Producer;
    use groupmq_test_support::rabbitmq::{Cluster, Options, RabbitMq};
    use groupmq_test_support::worker::{Worker, store_in};

    use super::super::load::Load;
    use super::super::scene::{PATIENCE, Scene, options};

    const GROUPS: usize = 25;
    /// More than a worker holds at a time.
    const BACKLOG: usize = 500;
    /// How many commands are answered before a node dies, and with the two others alone.
    const BETWEEN: usize = 500;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_command_is_done_once_though_the_node_that_leads_their_queue_is_killed_twice() {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let mut scene = scene(&cluster, &store).await;
        let mut load = Load::on(scene.groups(GROUPS).await);
        let queue = format!("{}.commands.0", scene.prefix);
        let answered = async |more: usize| {
            let until = scene.producer.seen().answered() + more;
            scene.producer.answered(until, 2 * PATIENCE).await.unwrap();
        };
        let enough = Cell::new(false);
        let dying = async {
            let mut died = Vec::new();
            for _ in 0..2 {
                cluster.until_whole().await.unwrap();
                let leader = cluster.leader(&queue).await.unwrap();
                answered(BETWEEN).await;
                cluster.nodes[leader].kill().await.unwrap();
                if died.is_empty() {
                    starts_without(&scene.options).await;
                }
                answered(BACKLOG + BETWEEN).await;
                cluster.nodes[leader].start_again().await.unwrap();
                died.push(leader);
            }
            enough.set(true);
            died
        };
        let (died, ()) = tokio::join!(dying, load.feed(&scene.producer, BACKLOG, &enough));
        scene.producer.collect_events();
        let counted = load.assert_once_each(&scene.producer, &store).await;
        println!("nodes that died: {died:?}; {counted}");
        // The worker was connected to the first of them.
        assert_eq!(died[0], 0);
        let log = scene.worker.log();
        assert!(log.contains("the link to the broker is down"), "{log}");
    }

    /// Another worker starts though the node in its url is dead.
    async fn starts_without(options: &groupmq_test_support::worker::Options) {
        let mut worker = Worker::start(options).await.unwrap();
        let log = worker.log();
        assert!(log.contains("trying the broker's next node"), "{log}");
        assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
    }

    /// A worker that begins with the first node, and a producer; both know all nodes.
    async fn scene(cluster: &Cluster, store: &str) -> Scene {
        let prefix = groupmq_test_support::prefix();
        let urls: Vec<_> = cluster.nodes.iter().map(RabbitMq::url).collect();
        let others = cluster.nodes[1..].iter().map(|it| it.address().to_string());
        let others: Vec<_> = others.collect();
        let options = options(&urls[0], &prefix)
            .set("amqp.other_hosts", others.join(","))
            .set("store.url", store);
        let worker = Worker::start(&options).await.unwrap();
        let producer = Producer::connect_to_any(&urls, &prefix).await.unwrap();
        Scene {
            producer,
            worker,
            options,
            prefix,
        }
    }
}
