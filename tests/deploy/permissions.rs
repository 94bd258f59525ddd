//! With the rights of `deploy/rabbitmq/permissions.json` and no others, every role works.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use groupmq_test_support::receiver::{Answer, Receiver};
use groupmq_test_support::worker::{Worker, store_in};
use serde_json::Value;

use super::rights::{Ran, World, client};

/// A machine that compiles at the same time is slow.
const PATIENCE: Duration = Duration::from_mins(1);

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
}

#[tokio::test]
async fn commands_are_carried_out_put_to_rest_and_given_up() {
    let world = World::new("commands").await;
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let options = world
        .role("commands")
        .set("store.url", &store)
        .set("engine.sandbox.faults.second.error_rate", "1.0")
        .set("retry.within", "0s")
        .set("retry.attempts", "2");
    let mut worker = Worker::start(&options).await.unwrap();

    let shop = world.user("shop");
    let payload = r#"{"name":"Climbing","participants":["15550000002@c.us"]}"#;
    let send = ["send", "CreateGroup", "--json", "--payload", payload];
    let made = world.run(&shop, &send).await;
    let made = json(&made);
    assert_eq!(made["status"], "ok", "{made}");

    // Rests twice, and is kept; then it is sent back to where it came from, and is kept again.
    let operator = world.user("groupmq-operator");
    let send = [
        "send",
        "LeaveGroup",
        "--json",
        "--session",
        "second",
        "--id",
        "x",
        "--payload",
        r#"{"groupId":"123123123123@g.us"}"#,
    ];
    let failed = json(&world.run(&operator, &send).await);
    assert_eq!(failed["error"]["code"], "ENGINE_UNAVAILABLE", "{failed}");
    let deferred = worker.get("/metrics").await.unwrap().1;
    let rests = r#"groupmq_commands_deferred_total{reason="ENGINE_UNAVAILABLE"} 2"#;
    assert!(deferred.contains(rests), "{deferred}");
    let list = ["dead", "list", "--json", "--reason", "ENGINE_UNAVAILABLE"];
    let kept = world.run(&operator, &list).await;
    assert_eq!(kept.out.lines().count(), 1, "{kept:?}");
    let replayed = world.run(&operator, &["dead", "replay", "--id", "x"]).await;
    assert_eq!(replayed.code, 0, "{replayed:?}");

    let operator = operator.set("store.url", &store);
    let well = world.run_in_its_store(&operator, &["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    assert_eq!(worker.stop().await.unwrap(), 0);
    world.remove().await;
}

#[tokio::test]
async fn webhooks_are_delivered_tried_again_given_up_and_removed() {
    let world = World::new("webhooks").await;
    let receiver = Receiver::start().unwrap();
    // Each event is tried once, rests, comes back, and is given up.
    let mut tries = 0;
    receiver.rule("/bad", move |_| {
        tries += 1;
        Answer::status(if tries <= 4 { 500 } else { 413 })
    });
    let folder = tempfile::tempdir().unwrap();
    let endpoint = |id: &str| {
        let url = receiver.url(&format!("/{id}"));
        format!("[[webhooks]]\nid = \"{id}\"\nurl = \"{url}\"\n")
    };
    let file = folder.path().join("webhooks.toml");
    std::fs::write(&file, endpoint("good") + &endpoint("bad")).unwrap();
    let store = store_in(folder.path());
    let webhooks = world
        .role("webhooks")
        .file(&file)
        .set("store.url", &store)
        .set("egress.allow", "127.0.0.0/8")
        .set("delivery.timeout", "1s")
        .set("delivery.refresh", "100ms");
    let mut delivering = Worker::start(&webhooks).await.unwrap();
    let commands = world.role("commands").set("store.url", &store);
    let mut executing = Worker::start(&commands).await.unwrap();

    let shop = world.user("shop");
    let payload = r#"{"name":"Climbing","participants":["15550000002@c.us"]}"#;
    let send = ["send", "CreateGroup", "--payload", payload];
    let made = world.run(&shop, &send).await;
    assert_eq!(made.code, 0, "{made:?}");
    let got = receiver.gets("/good", 4).await.unwrap();
    assert!(got.iter().all(|it| it.status == 204), "{got:?}");
    let gone = |depths: &BTreeMap<String, u64>| {
        depths
            .get("groupmq.dead.webhooks")
            .is_some_and(|length| *length == 4)
    };
    world.until(PATIENCE, gone).await;

    // Without an endpoint, its bindings and its queue go.
    assert_eq!(delivering.stop().await.unwrap(), 0);
    std::fs::write(&file, endpoint("good")).unwrap();
    let mut delivering = Worker::start(&webhooks).await.unwrap();
    world
        .until(PATIENCE, |depths| {
            !depths.contains_key("groupmq.webhook.bad")
        })
        .await;
    for worker in [&mut delivering, &mut executing] {
        assert_eq!(worker.stop().await.unwrap(), 0);
    }
    world.remove().await;
}

#[tokio::test]
async fn the_job_puts_endpoints_in_place_for_roles_that_start_in_any_order() {
    let world = World::new("first").await;
    let receiver = Receiver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("webhooks.toml");
    let endpoint = format!(
        "[[webhooks]]\nid = \"first\"\nurl = \"{}\"\n",
        receiver.url("/first")
    );
    std::fs::write(&file, endpoint).unwrap();
    let store = store_in(folder.path());
    let operator = world.user("groupmq-operator").set("store.url", &store);
    let applied = world
        .run_in_its_store(&operator.file(&file), &["topology", "apply"])
        .await;
    assert_eq!(applied.code, 0, "{applied:?}");

    let commands = world.role("commands").set("store.url", &store);
    let mut executing = Worker::start(&commands).await.unwrap();
    let payload = r#"{"name":"Climbing","participants":["491700000001@c.us"]}"#;
    let send = ["send", "CreateGroup", "--payload", payload];
    let made = world.run(&world.user("shop"), &send).await;
    assert_eq!(made.code, 0, "{made:?}");
    let webhooks = world
        .role("webhooks")
        .file(&file)
        .set("store.url", &store)
        .set("egress.allow", "127.0.0.0/8");
    let mut delivering = Worker::start(&webhooks).await.unwrap();
    let got = receiver.gets("/first", 2).await.unwrap();
    assert!(got.iter().all(|it| it.status == 204), "{got:?}");
    for worker in [&mut delivering, &mut executing] {
        assert_eq!(worker.stop().await.unwrap(), 0);
    }
    world.remove().await;
}

#[tokio::test]
async fn endpoints_come_and_go_by_command() {
    let world = World::new("endpoints").await;
    let receiver = Receiver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let webhooks = world
        .role("webhooks")
        .set("store.url", &store)
        .set("egress.allow", "127.0.0.0/8")
        .set("delivery.refresh", "100ms");
    let mut delivering = Worker::start(&webhooks).await.unwrap();
    let commands = world.role("commands").set("store.url", &store);
    let mut executing = Worker::start(&commands).await.unwrap();

    let shop = world.user("shop");
    let url = receiver.url("/mine");
    let endpoint = format!(r#"{{"id":"mine","url":"{url}"}}"#);
    let group = r#"{"name":"Climbing","participants":["15550000002@c.us"]}"#;
    for (command, payload) in [("SetWebhook", endpoint.as_str()), ("CreateGroup", group)] {
        let send = ["send", command, "--payload", payload];
        let done = world.run(&shop, &send).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    let got = receiver.gets("/mine", 2).await.unwrap();
    assert!(got.iter().all(|it| it.status == 204), "{got:?}");
    let payload = r#"{"id":"mine","discard":true}"#;
    let send = ["send", "RemoveWebhook", "--payload", payload];
    let removed = world.run(&shop, &send).await;
    assert_eq!(removed.code, 0, "{removed:?}");
    world
        .until(PATIENCE, |depths| {
            !depths.contains_key("groupmq.webhook.default.mine")
        })
        .await;
    for worker in [&mut delivering, &mut executing] {
        assert_eq!(worker.stop().await.unwrap(), 0);
    }
    world.remove().await;
}

#[tokio::test]
async fn the_operator_changes_the_number_of_shards() {
    let world = World::new("reshard").await;
    // Waits, since nobody carries commands out.
    let shop = world.attempts("shop").await;
    shop.may_publish("groupmq.commands", "default").await;
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let operator = world.user("groupmq-operator").set("topology.shards", "3");
    let operator = operator.set("store.url", &store);
    let reshard = ["topology", "reshard"];
    let changed = world.run_in_its_store(&operator, &reshard).await;
    assert_eq!(changed.code, 0, "{changed:?}");
    let told = "shards: 3 (before: 2); commands moved: 1 from the old queues";
    assert!(changed.out.contains(told), "{changed:?}");

    let commands = world.role("commands").set("topology.shards", "3");
    let commands = commands.set("store.url", &store);
    let mut worker = Worker::start(&commands).await.unwrap();
    // It was no command.
    world
        .until(PATIENCE, |depths| {
            depths.get("groupmq.dead.commands") == Some(&1)
        })
        .await;
    let done = world
        .run(&world.user("shop"), &["send", "ListGroups"])
        .await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(worker.stop().await.unwrap(), 0);
    world.remove().await;
}

#[tokio::test]
async fn the_gateway_passes_requests_on_and_tells_of_events() {
    let world = World::new("gateway").await;
    let address = groupmq_test_support::free_address();
    let gateway = world
        .role("gateway")
        .set("gateway.listen", address.to_string());
    let mut gateway = Worker::start(&gateway).await.unwrap();
    let mut executing = Worker::start(&world.role("commands")).await.unwrap();
    let client = client();
    let groups = format!("http://{address}/api/default/groups");
    let made = client
        .post(&groups)
        .header("content-type", "application/json")
        .body(r#"{"name":"Climbing","participants":[{"id":"15550000002@c.us"}]}"#)
        .send();
    let made = made.await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    let events = client.get(format!("http://{address}/api/default/events"));
    let mut events = events.send().await.unwrap();
    assert!(events.status().is_success(), "{events:?}");
    let again = client
        .post(&groups)
        .header("content-type", "application/json")
        .body(r#"{"name":"Climbing","participants":[{"id":"15550000003@c.us"}]}"#)
        .send();
    assert!(again.await.unwrap().status().is_success());
    let told = async {
        let mut told = String::new();
        while !told.contains("group.join") {
            let chunk = events.chunk().await.unwrap().unwrap();
            told.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    drop(events);
    for worker in [&mut gateway, &mut executing] {
        assert_eq!(worker.stop().await.unwrap(), 0);
    }
    world.remove().await;
}

#[tokio::test]
async fn a_producer_reaches_its_own_session_and_no_other() {
    let world = World::new("producer").await;
    let mut worker = Worker::start(&world.role("commands")).await.unwrap();
    let shop = world.user("shop");

    let own = world.run(&shop, &["send", "ListGroups"]).await;
    assert_eq!(own.code, 0, "{own:?}");
    let send = ["send", "ListGroups", "--session", "second"];
    let other = world.run(&shop, &send).await;
    assert_eq!(other.code, 5, "{other:?}");
    // A routing key that may be used, and a body that says something else.
    let body = r#"{"id":"y","type":"ListGroups","session":"second"}"#;
    let reply = world.call("shop", "default", body).await;
    assert_eq!(reply["error"]["code"], "SESSION_MISMATCH", "{reply}");
    replies_reach_no_queue_of_our_own(&world, &worker).await;

    let attempts = world.attempts("shop").await;
    attempts.may_bind("groupmq.events", "default.#").await;
    attempts.may_publish("groupmq.commands", "default").await;
    for key in ["second", "default.second", "defaults", "", "#"] {
        attempts.may_not_publish("groupmq.commands", key).await;
    }
    for (exchange, key) in [
        ("", "groupmq.commands.0"),
        ("", "groupmq.dead.commands"),
        ("groupmq.return", "commands.0"),
        ("groupmq.delay.100ms", "commands.0"),
        ("groupmq.events", "second.group.join"),
        ("groupmq.events", "default.group.join"),
        ("groupmq.replies", "second.ListGroups.ok"),
        ("groupmq.dead", "commands"),
        ("groupmq.orphan", ""),
    ] {
        attempts.may_not_publish(exchange, key).await;
    }
    for key in ["second.#", "#", "*.group.join", "*.#"] {
        attempts.may_not_bind("groupmq.events", key).await;
    }
    for exchange in ["groupmq.replies", "groupmq.commands", "groupmq.dead"] {
        attempts.may_not_bind(exchange, "default.#").await;
    }
    for queue in [
        "groupmq.commands.0",
        "groupmq.dead.commands",
        "groupmq.delay.100ms",
    ] {
        attempts.may_not_consume(queue).await;
        attempts.may_not_purge_or_delete(queue).await;
    }
    attempts.may_not_declare("groupmq.commands.1").await;
    attempts.may_not_declare("mine").await;
    attempts.close().await;
    assert_eq!(worker.stop().await.unwrap(), 0);
    world.remove().await;
}

/// The worker has the rights to write there, so it must not be asked to.
async fn replies_reach_no_queue_of_our_own(world: &World<'_>, worker: &Worker) {
    // The letter that was refused before; the broker counts once a second.
    let one = |depths: &BTreeMap<String, u64>| depths.get("groupmq.dead.commands") == Some(&1);
    world.until(PATIENCE, one).await;
    let before = world.depths().await;
    let queues = [
        "groupmq.dead.commands",
        "groupmq.dead.webhooks",
        "groupmq.presence",
        "groupmq.commands.0",
        "groupmq.delay.100ms",
        "groupmq.orphan",
        "groupmq.webhook.default.another",
    ];
    for (n, queue) in queues.iter().enumerate() {
        let body = format!(r#"{{"id":"own-{n}","type":"ListGroups"}}"#);
        world.ask_for("shop", "default", &body, queue).await;
    }
    let all = format!("groupmq_replies_returned_total {}\n", queues.len());
    let begun = Instant::now();
    while !worker.get("/metrics").await.unwrap().1.contains(&all) {
        assert!(begun.elapsed() < PATIENCE, "they were sent there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.depths().await, before);
}

#[tokio::test]
async fn each_role_is_kept_from_what_is_not_its_own() {
    let world = World::new("roles").await;
    let commands = world.attempts("groupmq-commands").await;
    let webhooks = world.attempts("groupmq-webhooks").await;
    let gateway = world.attempts("groupmq-gateway").await;
    let scaling = world.attempts("groupmq-scaling").await;
    for queue in [
        "groupmq.dead.commands",
        "groupmq.dead.webhooks",
        "groupmq.delay.100ms",
    ] {
        for user in [&commands, &webhooks, &gateway, &scaling] {
            user.may_not_consume(queue).await;
            user.may_not_purge_or_delete(queue).await;
        }
    }
    for user in [&webhooks, &gateway, &scaling] {
        user.may_not_consume("groupmq.commands.0").await;
        user.may_not_publish("groupmq.replies", "default.ListGroups.ok")
            .await;
        user.may_not_publish("", "groupmq.commands.0").await;
    }
    for user in [&commands, &webhooks, &scaling] {
        user.may_not_publish("groupmq.commands", "default").await;
        user.may_not_declare("groupmq.commands.1").await;
        user.may_not_declare("anything").await;
    }
    gateway
        .may_not_publish("groupmq.events", "default.group.join")
        .await;
    gateway.may_not_declare("groupmq.webhook.x").await;
    scaling
        .may_not_publish("groupmq.events", "default.group.join")
        .await;
    scaling.may_not_declare("groupmq.webhook.x").await;
    for user in [commands, webhooks, gateway, scaling] {
        user.close().await;
    }
    let begun = Instant::now();
    let user = world.user("groupmq-commands");
    let topology = world.run(&user, &["topology", "apply"]).await;
    // Refused, and told so at once.
    assert_eq!(topology.code, 5, "{topology:?}");
    assert!(begun.elapsed() < PATIENCE);
    world.remove().await;
}

mod own_node {
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};

    use super::*;

    #[tokio::test]
    async fn scaling_sees_how_much_waits_in_the_command_queues() {
        let options = Options::default()
            .plugin("rabbitmq_management")
            .plugin("rabbitmq_sharding");
        let broker = RabbitMq::start(options).await.unwrap();
        let world = World::on(&broker, "scaling").await;
        let shop = world.attempts("shop").await;
        shop.may_publish("groupmq.commands", "default").await;
        let begun = Instant::now();
        // What queues report is a tick old.
        while world.seen_by_scaling().await != (2, 1) {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
