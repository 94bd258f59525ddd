//! Links that break under load while the broker lives: nothing is lost, and late acknowledgements
//! do no harm.

use std::time::{Duration, Instant};

use groupmq_test_support::producer::Seen;
use groupmq_test_support::proxy::Proxy;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Options;
use serde_json::json;

use super::scene::{Scene, effects, subjects};

const COMMANDS: usize = 1_500;
const GROUPS: usize = 30;
const PATIENCE: Duration = Duration::from_mins(2);

/// How connections are named: see [`Proxy::cut_those`].
const PUBLISH: &str = "groupmq publish";
const CONSUME: &str = "groupmq consume";

/// A worker that reaches the shared broker through a proxy.
async fn through_a_proxy(settings: impl FnOnce(Options) -> Options) -> (Proxy, Scene) {
    let broker = RabbitMq::shared().await.unwrap();
    let proxy = Proxy::start(broker.address()).await.unwrap();
    let url = broker.url_through(proxy.address());
    let scene = Scene::split(&url, &broker.url(), settings).await;
    (proxy, scene)
}

async fn under_load(trouble: impl AsyncFnOnce(&Proxy)) {
    // The broker's answer to half-open links, too.
    let heartbeat = |options: Options| options.set("amqp.heartbeat", "1s");
    let (proxy, scene) = through_a_proxy(heartbeat).await;
    let groups = scene.groups(GROUPS).await;
    let commands = subjects(&groups, "s", COMMANDS);
    let begun = Instant::now();
    let disturb = async {
        scene
            .producer
            .answered(GROUPS + 100, PATIENCE)
            .await
            .unwrap();
        trouble(&proxy).await;
    };
    let (sent, ()) = tokio::join!(scene.producer.send_all(commands), disturb);
    sent.unwrap();

    let all = GROUPS + COMMANDS;
    let came = |seen: &Seen| {
        let all_came = seen.answered() == all
            && seen.answered_directly() == all
            && effects(seen, "s-") == COMMANDS;
        all_came.then_some(())
    };
    scene.producer.until(PATIENCE, came).await.unwrap();
    println!("{:?}: {:?}", begun.elapsed(), scene.producer.seen());
    let log = scene.worker.log();
    let down = log.matches("the link to the broker is down").count();
    println!("links went down {down} times");
    assert!(down > 0);
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    assert!(!log.contains("panicked"));
}

async fn cut_again_and_again(proxy: &Proxy, words: &str) {
    for _ in 0..6 {
        proxy.cut_those(words);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_publish_link_that_is_cut_again_and_again_costs_no_reply() {
    under_load(async |proxy| cut_again_and_again(proxy, PUBLISH).await).await;
}

#[tokio::test]
async fn a_consume_link_that_is_cut_again_and_again_costs_no_command() {
    under_load(async |proxy| cut_again_and_again(proxy, CONSUME).await).await;
}

#[tokio::test]
async fn both_links_cut_again_and_again_cost_nothing() {
    under_load(async |proxy| cut_again_and_again(proxy, "").await).await;
}

#[tokio::test]
async fn a_half_open_publish_link_is_noticed_by_its_heartbeat() {
    under_load(async |proxy| proxy.freeze_those(PUBLISH)).await;
}

#[tokio::test]
async fn a_half_open_consume_link_is_noticed_by_its_heartbeat() {
    under_load(async |proxy| proxy.freeze_those(CONSUME)).await;
}

#[tokio::test]
async fn a_network_that_is_dead_for_a_while_costs_nothing() {
    under_load(async |proxy| {
        proxy.pause();
        tokio::time::sleep(Duration::from_secs(5)).await;
        proxy.resume();
    })
    .await;
}

#[tokio::test]
async fn a_link_that_comes_back_asks_for_the_whole_topology_in_a_few_round_trips() {
    let shards = |options: Options| options.set("topology.shards", "16");
    let (proxy, scene) = through_a_proxy(shards).await;
    let [first] = scene.groups(1).await.try_into().unwrap();
    let before = proxy.round_trips(PUBLISH);
    proxy.cut_those(PUBLISH);
    let payload = json!({"groupId": first, "subject": "after"});
    let reply = scene.call("after", "SetGroupSubject", &payload).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let needed = proxy.round_trips(PUBLISH) - before;
    println!("{before} round trips at first, {needed} again");
    // Of 51 exchanges and queues and their bindings each took one.
    assert!((5..40).contains(&needed), "{needed} round trips");
}

#[tokio::test]
async fn a_broker_that_accepts_and_says_nothing_leaves_no_threads_behind() {
    let (proxy, mut scene) = through_a_proxy(|options| {
        let options = options.set("amqp.heartbeat", "1s");
        options.set("amqp.connect_timeout", "1s")
    })
    .await;
    let before = scene.worker.status("Threads").unwrap();
    proxy.pause();
    proxy.cut();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let meanwhile = scene.worker.status("Threads").unwrap();
    // The log says it once and then every half minute.
    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    let failed = metrics
        .lines()
        .filter(|line| line.starts_with("groupmq_broker_disconnections_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    let attempts: u64 = failed.sum();
    let log = scene.worker.log();
    let said = log.matches("the link to the broker is down").count();
    assert!(
        (1..9).contains(&said),
        "each of three links fails in two ways, and says so {said} times"
    );
    println!("{before} threads before, {meanwhile} after {attempts} attempts");
    assert!(attempts >= 6, "{attempts} attempts");
    assert!(
        meanwhile <= before + 2,
        "{before} threads, then {meanwhile}"
    );
    proxy.resume();
    scene.worker.until_ready(PATIENCE).await.unwrap();
}
