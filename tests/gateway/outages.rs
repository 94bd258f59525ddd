//! Gateway and broker come and go while many clients are at it: whoever asks again with the same key
//! gets the one answer.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::scene::Scene;

mod own_node {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;

    use groupmq_test_support::rabbitmq::{Options as Node, RabbitMq};
    use groupmq_test_support::worker::{Options, Worker};
    use reqwest::Client;
    use serde_json::{Value, json};
    use tokio::task::JoinSet;

    use crate::scene::{self, client, options};

    const CLIENTS: usize = 500;
    /// Groups that each client creates, one after the other.
    const EACH: usize = 4;
    const PATIENCE: Duration = Duration::from_mins(3);

    /// Asks until there is an answer, as a client does that follows docs/gateway.md.
    async fn create(client: &Client, gateway: SocketAddr, key: &str) -> Value {
        let body = json!({ "name": key, "participants": [] });
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = client
                .post(format!("http://{gateway}/api/default/groups"))
                .header("idempotency-key", key);
            let said = match scene::with_json(request, &body).send().await {
                Ok(response) if response.status() == 201 => {
                    let text = response.text().await;
                    if let Ok(text) = text {
                        return serde_json::from_str(&text).unwrap();
                    }
                    "it broke off".to_owned()
                }
                Ok(response) => {
                    let status = response.status().as_u16();
                    assert!([429, 503, 504].contains(&status), "{key}: {status}");
                    status.to_string()
                }
                Err(error) => error.to_string(),
            };
            let late = tokio::time::Instant::now() > until;
            assert!(!late, "{key}: no answer; {said}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn gateway(url: &str, prefix: &str, address: SocketAddr) -> Options {
        options(url, prefix)
            .set("roles", "gateway")
            .set("gateway.listen", address.to_string())
            .set("gateway.timeout", "5s")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_client_that_repeats_its_request_gets_its_one_answer() {
        let mut broker = RabbitMq::start(Node::default()).await.unwrap();
        let prefix = groupmq_test_support::prefix();
        let worker = Worker::start(&options(&broker.url(), &prefix))
            .await
            .unwrap();
        let address = groupmq_test_support::free_address();
        let settings = gateway(&broker.url(), &prefix, address);
        let mut front = Worker::start(&settings).await.unwrap();
        // RabbitMQ 3.10 damages a quorum queue when it is killed soon after the queue's declaration.
        tokio::time::sleep(Duration::from_secs(5)).await;

        let client = client();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = client.clone();
            clients.spawn(async move {
                let mut answers = Vec::new();
                for round in 0..EACH {
                    let key = format!("key-{number}-{round}");
                    let answer = create(&client, address, &key).await;
                    answers.push((key, answer["id"].as_str().unwrap().to_owned()));
                    // So that the outages fall among the requests.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                answers
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        front.kill().unwrap();
        front = Worker::start(&settings).await.unwrap();
        broker.kill().await.unwrap();
        broker.start_again().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(front.stop().await.unwrap(), 0);
        let _front = Worker::start(&settings).await.unwrap();

        let mut answers = BTreeMap::new();
        while let Some(of_one) = clients.join_next().await {
            answers.extend(of_one.unwrap());
        }
        assert_eq!(answers.len(), CLIENTS * EACH);
        // Asked once more, the answers are the same; and there is one group for each key.
        for (key, id) in answers.iter().step_by(50) {
            let again = create(&client, address, key).await;
            assert_eq!(&again["id"], id, "{key}");
        }
        let url = format!("http://{address}/api/default/groups?exclude=participants");
        let all = scene::answer(client.get(url)).await.json();
        let mut made: BTreeMap<String, String> = BTreeMap::new();
        for group in all.as_array().unwrap() {
            let text = |field: &str| group[field].as_str().unwrap().to_owned();
            let before = made.insert(text("subject"), text("id"));
            assert_eq!(before, None, "two groups for {}", text("subject"));
        }
        assert_eq!(made, answers);
        drop(worker);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_blocked_broker_was_not_given_is_said_to_be_undone() {
        let broker = RabbitMq::start(Node::default()).await.unwrap();
        let prefix = groupmq_test_support::prefix();
        let worker = Worker::start(&options(&broker.url(), &prefix))
            .await
            .unwrap();
        let address = groupmq_test_support::free_address();
        let settings = gateway(&broker.url(), &prefix, address).set("gateway.timeout", "30s");
        let front = Worker::start(&settings).await.unwrap();
        let client = client();
        create(&client, address, "before").await;

        let alarm = ["set_vm_memory_high_watermark", "0.000001"];
        broker.ctl(&alarm).await.unwrap();
        let ask = async |key: &str| {
            let request = client
                .post(format!("http://{address}/api/default/groups"))
                .header("idempotency-key", key)
                .header("prefer", "wait=1");
            let body = json!({ "name": key, "participants": [] });
            scene::answer(scene::with_json(request, &body)).await
        };
        // The gateway may have asked by now whether the broker takes anything.
        let first = ask("first").await;
        if first.status == 504 {
            first.assert_problem(504, "NO_REPLY");
        } else {
            first.assert_problem(503, "UNAVAILABLE");
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        while !front.log().contains("the broker blocks publishing") {
            assert!(tokio::time::Instant::now() < until, "{}", front.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let undone = ask("second").await;
        undone.assert_problem(503, "UNAVAILABLE");
        assert_eq!(undone.header("retry-after"), "1");

        broker
            .ctl(&["set_vm_memory_high_watermark", "0.4"])
            .await
            .unwrap();
        let path = format!("http://{address}/api/commands/second?session=default");
        for key in ["first", "third"] {
            assert!(create(&client, address, key).await["id"].is_string());
        }
        // Withdrawn, it was not sent afterwards either.
        let told = scene::answer(client.get(path)).await;
        told.assert_problem(404, "COMMAND_UNKNOWN");
        let url = format!("http://{address}/api/default/groups?exclude=participants");
        let all = scene::answer(client.get(url)).await.json();
        let mut made: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["subject"].clone())
            .collect();
        made.sort_by_key(ToString::to_string);
        assert_eq!(made, ["before", "first", "third"], "{all}");
        drop((front, worker));
    }
}

#[tokio::test]
async fn clients_that_hold_all_connections_leave_files_for_everything_else() {
    let few = ["prlimit", "--nofile=64"].map(str::to_owned);
    let scene = Scene::with(|options| options.behind(few)).await;
    let mut held = Vec::new();
    for _ in 0..120 {
        held.push(TcpStream::connect(scene.address).await.unwrap());
    }
    // For as long as it takes the gateway to accept what it will.
    for _ in 0..20 {
        for path in ["/livez", "/readyz"] {
            let (status, body) = scene.worker.get(path).await.unwrap();
            assert_eq!(status, 200, "{path}: {body}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(held);
    let answer = scene.send("GET", "/api/default/groups", &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let log = scene.worker.log();
    assert!(
        log.contains("ulimit -n") && log.contains("most=16"),
        "{log}"
    );
}
