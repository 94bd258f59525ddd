//! A worker with all roles, an endpoint and a listener, and the operator's deeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use groupmq_test_support::producer::{Command, Producer, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Receiver;
use groupmq_test_support::worker::{Options, Worker, store_in};
use lapin::options::{ExchangeDeleteOptions, ExchangeUnbindOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cli::{Ran, run};
use crate::scene::{PATIENCE, options};

/// A reply that has not come by then was lost with a queue: its producer sends the command again.
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// Something on the broker, as `groupmq topology show` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Exchange(String),
    Queue(String),
    Binding {
        from: String,
        key: String,
        to: String,
    },
}

pub(super) struct Stage {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) options: Options,
    pub(super) worker: Worker,
    pub(super) producer: Producer,
    receiver: Receiver,
    heard: Arc<Mutex<String>>,
    connection: Connection,
    folder: TempDir,
    sent: usize,
    group: String,
    _listening: JoinSet<()>,
}

impl Stage {
    /// With an endpoint `hook` for everything, a listener at the gateway, and these settings.
    pub(super) async fn with(settings: impl FnOnce(Options) -> Options) -> Self {
        let url = RabbitMq::shared().await.unwrap().url();
        let prefix = groupmq_test_support::prefix();
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().unwrap();
        let file = folder.path().join("groupmq.toml");
        let hook = receiver.url("/hook");
        let endpoint = format!("[[webhooks]]\nid = \"hook\"\nurl = \"{hook}\"\n");
        std::fs::write(&file, endpoint).unwrap();
        let gateway = groupmq_test_support::free_address();
        let options = options(&url, &prefix)
            .set("roles", "commands,webhooks,gateway")
            .set("topology.interval", "1s")
            .set("egress.allow", "127.0.0.0/8")
            .set("delivery.refresh", "100ms")
            .set("gateway.listen", gateway.to_string())
            .set("store.url", store_in(folder.path()))
            .file(&file);
        let options = settings(options);
        assert_eq!(run(&options, &["topology", "apply"]).await.code, 0);
        let worker = Worker::start(&options).await.unwrap();
        let producer = Producer::connect(&url, &prefix).await.unwrap();
        let heard = Arc::<Mutex<String>>::default();
        let mut listening = JoinSet::new();
        listening.spawn(listen(gateway, Arc::clone(&heard)));
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        let mut stage = Self {
            connection: connecting.await.unwrap(),
            url,
            prefix,
            options,
            worker,
            producer,
            receiver,
            heard,
            folder,
            sent: 0,
            group: String::new(),
            _listening: listening,
        };
        let payload = json!({"name": "whole", "participants": []});
        let made = stage.call("CreateGroup", payload).await;
        made["result"]["id"]
            .as_str()
            .unwrap()
            .clone_into(&mut stage.group);
        stage
    }

    /// Everything that `topology show` names, and what belongs to the endpoint.
    pub(super) async fn parts(&self) -> Vec<Part> {
        let shown = run(&self.options, &["topology", "show"]).await;
        let mut parts: Vec<_> = shown.out.lines().map(part).collect();
        let (queue, name) = (self.name("webhook.hook"), |end: &str| self.name(end));
        let bound = |from: String, key: &str| Part::Binding {
            from,
            key: key.to_owned(),
            to: queue.clone(),
        };
        parts.extend([
            Part::Queue(queue.clone()),
            bound(name("return"), "webhook.hook"),
            bound(name("events"), "*.group.update"),
        ]);
        parts
    }

    pub(super) fn name(&self, end: &str) -> String {
        format!("{}.{end}", self.prefix)
    }

    async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// Takes a part away.
    pub(super) async fn delete(&self, part: &Part) {
        let channel = self.channel().await;
        match part {
            Part::Exchange(name) => {
                let options = ExchangeDeleteOptions::default();
                let deleted = channel.exchange_delete(name.as_str().into(), options);
                deleted.await.unwrap();
            }
            Part::Queue(name) => {
                let options = QueueDeleteOptions::default();
                let deleted = channel.queue_delete(name.as_str().into(), options);
                deleted.await.unwrap();
            }
            Part::Binding { from, key, to } => {
                let (from, key, to) = (from.as_str(), key.as_str(), to.as_str());
                let none = FieldTable::default();
                if to.ends_with(".shards") {
                    let options = ExchangeUnbindOptions::default();
                    let unbound =
                        channel.exchange_unbind(to.into(), from.into(), key.into(), options, none);
                    unbound.await.unwrap();
                } else {
                    let unbound = channel.queue_unbind(to.into(), from.into(), key.into(), none);
                    unbound.await.unwrap();
                }
            }
        }
    }

    /// Sends a command until it is answered, as a producer does that follows docs/clients.md.
    pub(super) async fn call(&mut self, command_type: &str, payload: Value) -> Value {
        self.sent += 1;
        let id = format!("c{}", self.sent);
        let command = Command::new(&id, command_type, "default", &payload);
        let begun = Instant::now();
        loop {
            self.producer.send(command.clone()).await.unwrap();
            let come = |seen: &Seen| {
                let mut direct = seen.replies(&id).into_iter().filter(|reply| reply.direct);
                direct.next().map(|reply| reply.body)
            };
            if let Ok(reply) = self.producer.until(REPLY_WITHIN, come).await {
                assert_eq!(reply["status"], "ok", "{reply}");
                return reply;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} has no answer");
        }
    }

    /// Changes the group; returns the id of the command that did.
    async fn change(&mut self) -> String {
        let subject = format!("subject {}", self.sent);
        let payload = json!({"groupId": self.group, "subject": subject});
        self.call("SetGroupSubject", payload).await;
        format!("c{}", self.sent)
    }

    /// Takes a part away until `doctor` finds it gone: while the worker starts, it may be put back once.
    pub(super) async fn until_missed(&self, part: &Part) -> Ran {
        let begun = Instant::now();
        loop {
            self.delete(part).await;
            let said = self.run(&["doctor", "--json"]).await;
            if said.code == 1 {
                return said;
            }
            assert!(begun.elapsed() < PATIENCE, "{part:?}: {said:?}");
        }
    }

    /// Changes the group until an event of it reaches the endpoint and the listener, and `doctor` says that
    /// everything is well.
    pub(super) async fn until_whole(&mut self, after: &Part) {
        let begun = Instant::now();
        loop {
            let id = self.change().await;
            let said = run(&self.options, &["doctor"]).await;
            if said.code == 0 && self.reaches_everybody(&id) {
                return;
            }
            let everybody = self.reaches_everybody(&id);
            assert!(
                begun.elapsed() < PATIENCE,
                "after {after:?} {id} reaches everybody: {everybody}, {said:?}"
            );
        }
    }

    /// Changes the group until an event of it reaches the endpoint.
    pub(super) async fn until_delivered(&mut self) {
        let begun = Instant::now();
        loop {
            let id = self.change().await;
            if self.is_delivered(&id) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} is not delivered");
        }
    }

    fn reaches_everybody(&self, command: &str) -> bool {
        let is_heard = self.heard.lock().contains(&caused_by(command));
        is_heard && self.is_delivered(command)
    }

    fn is_delivered(&self, command: &str) -> bool {
        let told = |body: &[u8]| String::from_utf8_lossy(body).contains(&caused_by(command));
        self.receiver.got("/hook").iter().any(|it| told(&it.body))
    }

    /// Nothing but events has come to the endpoint.
    pub(super) fn only_events_were_delivered(&self) {
        for delivered in self.receiver.got("/hook") {
            let event: Value = serde_json::from_slice(&delivered.body).unwrap();
            assert!(event["event"].is_string(), "{event}");
        }
    }

    /// Every change has been made once.
    pub(super) async fn nothing_was_done_twice(&self) {
        let history = crate::world::history(&store_in(self.folder.path()), &self.group).await;
        let mut once = history.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), history.len(), "{history:?}");
        assert_eq!(once.len(), self.sent);
    }

    /// Runs a statement on the store.
    pub(super) async fn sql(&self, statement: &'static str) {
        let url = store_in(self.folder.path());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        connection
            .execute("PRAGMA busy_timeout = 20000")
            .await
            .unwrap();
        connection.execute(statement).await.unwrap();
    }

    /// A number that the worker shows to Prometheus.
    pub(super) async fn metric(&self, name: &str) -> u64 {
        let shown = self.worker.get("/metrics").await.unwrap().1;
        let line = shown.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.options, arguments).await
    }
}

impl Part {
    /// The broker's word for it and its name, as `/readyz` and the log have it.
    pub(super) fn called(&self) -> Option<String> {
        match self {
            Self::Exchange(name) => Some(format!("exchange {name}")),
            Self::Queue(name) => Some(format!("queue {name}")),
            Self::Binding { .. } => None,
        }
    }
}

fn part(line: &str) -> Part {
    let words: Vec<_> = line.split_whitespace().collect();
    let name = words[1].to_owned();
    match words[0] {
        "exchange" => Part::Exchange(name),
        "queue" => Part::Queue(name),
        _ => {
            let key = words[2].strip_prefix("--").unwrap();
            Part::Binding {
                from: name,
                key: key.strip_suffix("-->").unwrap().to_owned(),
                to: words[3].to_owned(),
            }
        }
    }
}

/// How an event names its command.
fn caused_by(command: &str) -> String {
    format!("\"commandId\":\"{command}\"")
}

/// Keeps what the gateway tells whoever listens.
async fn listen(gateway: std::net::SocketAddr, heard: Arc<Mutex<String>>) {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let request = "GET /api/*/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        heard.lock().push_str(&line);
    }
}

/// Waits until something is so.
pub(super) async fn until(mut is_so: impl AsyncFnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
