//! A virtual host with the users of `deploy/rabbitmq/permissions.json`, and what they try.
//!
//! The users get names of this test, since users belong to the whole broker; their rights, and the
//! topology's prefix, are those of the file.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::StreamExt as _;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Options;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tools::read;

const PASSWORD: &str = "secret";

/// What a command of the binary printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    #[expect(dead_code, reason = "read by a person when a test fails")]
    err: String,
}

/// The virtual host.
pub(crate) struct World<'a> {
    broker: &'a RabbitMq,
    vhost: String,
    users: Vec<String>,
}

impl World<'static> {
    /// On the broker that tests share.
    pub(crate) async fn new(name: &str) -> Self {
        World::on(RabbitMq::shared().await.unwrap(), name).await
    }
}

impl<'a> World<'a> {
    /// Makes the users, and the topology as `groupmq-operator`.
    pub(crate) async fn on(broker: &'a RabbitMq, name: &str) -> Self {
        let vhost = format!("deploy-{name}-{}", std::process::id());
        let mut definitions: Value =
            serde_json::from_str(&read("deploy/rabbitmq/permissions.json")).unwrap();
        let mut users = Vec::new();
        for list in ["permissions", "topic_permissions"] {
            for entry in definitions[list].as_array_mut().unwrap() {
                let user = format!("{vhost}-{}", entry["user"].as_str().unwrap());
                entry["vhost"] = json!(vhost);
                entry["user"] = json!(user);
                users.push(user);
            }
        }
        users.sort();
        users.dedup();
        let made = users.iter().map(|user| {
            // As rabbitmq-users.yaml has them.
            let is_scaling = user.ends_with("-groupmq-scaling");
            let tags = if is_scaling { "management" } else { "" };
            json!({"name": user, "password_hash": hash(PASSWORD), "tags": tags,
                   "hashing_algorithm": "rabbit_password_hashing_sha256"})
        });
        definitions["users"] = made.collect();
        definitions["vhosts"] = json!([{"name": vhost}]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("definitions.json");
        std::fs::write(&file, definitions.to_string()).unwrap();
        let file = file.to_str().unwrap();
        broker.ctl(&["import_definitions", file]).await.unwrap();
        let world = Self {
            broker,
            vhost,
            users,
        };
        let operator = world.user("groupmq-operator");
        let applied = world.run(&operator, &["topology", "apply"]).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        world
    }

    fn url(&self, user: &str) -> String {
        let user = format!("{}-{user}", self.vhost);
        assert!(self.users.contains(&user), "{user}");
        self.broker.url_as(&user, PASSWORD, &self.vhost)
    }

    /// Settings of groupmq for one of the users; there are several shards, as in production.
    pub(crate) fn user(&self, user: &str) -> Options {
        Options::new(env!("CARGO_BIN_EXE_groupmq"), &self.url(user), "groupmq")
            .set("topology.delay_tiers", "100ms")
            .set("topology.shards", "2")
            .set("delivery.schedule", "200ms")
    }

    /// Settings of a worker with one role, as the production overlay has them.
    pub(crate) fn role(&self, role: &str) -> Options {
        self.user(&format!("groupmq-{role}"))
            .set("roles", role)
            .set("topology.mode", "passive")
    }

    /// Runs a command of the binary.
    pub(crate) async fn run(&self, options: &Options, arguments: &[&str]) -> Ran {
        let folder = tempfile::tempdir().unwrap();
        let store = groupmq_test_support::worker::store_in(folder.path());
        self.run_in_its_store(&options.clone().set("store.url", store), arguments)
            .await
    }

    /// The same with the store that the settings name.
    pub(crate) async fn run_in_its_store(&self, options: &Options, arguments: &[&str]) -> Ran {
        let mut command = options.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code().unwrap(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Sends any body as a command, and waits for the reply.
    pub(crate) async fn call(&self, user: &str, key: &str, body: &str) -> Value {
        let connection = connect(&self.url(user)).await;
        let channel = connection.create_channel().await.unwrap();
        let queue = own_queue(&channel).await;
        send(&channel, key, body, &queue).await;
        let (tag, none) = (ShortString::default(), FieldTable::default());
        let options = BasicConsumeOptions::default();
        let mut replies = channel
            .basic_consume(queue, tag, options, none)
            .await
            .unwrap();
        let reply = replies.next().await.unwrap().unwrap();
        connection.close(200, ShortString::default()).await.unwrap();
        serde_json::from_slice(&reply.data).unwrap()
    }

    /// Sends any body as a command whose reply is to go to some queue.
    pub(crate) async fn ask_for(&self, user: &str, key: &str, body: &str, reply_to: &str) {
        let connection = connect(&self.url(user)).await;
        let channel = connection.create_channel().await.unwrap();
        send(&channel, key, body, &reply_to.into()).await;
        connection.close(200, ShortString::default()).await.unwrap();
    }

    /// Waits until the queues are as they should be.
    pub(crate) async fn until(
        &self,
        within: Duration,
        is: impl Fn(&BTreeMap<String, u64>) -> bool,
    ) {
        let begun = Instant::now();
        loop {
            let depths = self.depths().await;
            if is(&depths) {
                return;
            }
            assert!(begun.elapsed() < within, "{depths:?}");
        }
    }

    /// How many messages there are in each queue.
    pub(crate) async fn depths(&self) -> BTreeMap<String, u64> {
        let list = [
            "list_queues",
            "--no-table-headers",
            "-p",
            &self.vhost,
            "name",
            "messages",
        ];
        let lines = self.broker.ctl(&list).await.unwrap();
        let depth = |line: &str| {
            let (name, depth) = line.rsplit_once('\t').unwrap();
            (name.to_owned(), depth.parse().unwrap())
        };
        lines.lines().map(depth).collect()
    }

    /// What the management API tells KEDA of the command queues: how many there are, and how many
    /// messages wait in all of them.
    pub(crate) async fn seen_by_scaling(&self) -> (usize, u64) {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("page", "1")
            .append_pair("page_size", "500")
            .append_pair("use_regex", "true")
            .append_pair("name", r"^groupmq\.commands\.[0-9]+$")
            .finish();
        let url = self.broker.management_url();
        let url = format!("{url}/api/queues/{}?{query}", self.vhost);
        let user = format!("{}-groupmq-scaling", self.vhost);
        let request = client().get(url).basic_auth(user, Some(PASSWORD)).send();
        let answer = request.await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let queues = answer["items"].as_array().unwrap();
        let waiting = queues.iter().filter_map(|it| it["messages"].as_u64()).sum();
        (queues.len(), waiting)
    }

    /// A connection for trying things out.
    pub(crate) async fn attempts(&self, user: &str) -> Attempts {
        Attempts(connect(&self.url(user)).await)
    }

    /// Removes everything.
    pub(crate) async fn remove(self) {
        self.broker
            .ctl(&["delete_vhost", &self.vhost])
            .await
            .unwrap();
        for user in &self.users {
            self.broker.ctl(&["delete_user", user]).await.unwrap();
        }
    }
}

/// A password as RabbitMQ's definitions have it: salt and SHA-256, in Base64.
fn hash(password: &str) -> String {
    let salt = [1, 2, 3, 4];
    let hashed = Sha256::digest([&salt[..], password.as_bytes()].concat());
    BASE64_STANDARD.encode([&salt[..], &hashed].concat())
}

/// An HTTP client that goes straight to this machine.
pub(crate) fn client() -> reqwest::Client {
    // Only once in a process, whoever does it first.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap()
}

async fn send(channel: &Channel, key: &str, body: &str, reply_to: &ShortString) {
    let properties = BasicProperties::default().with_reply_to(reply_to.clone());
    let options = BasicPublishOptions::default();
    let exchange = "groupmq.commands".into();
    channel
        .basic_publish(exchange, key.into(), options, body.as_bytes(), properties)
        .await
        .unwrap();
}

async fn own_queue(channel: &Channel) -> ShortString {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let declared = channel.queue_declare("".into(), options, FieldTable::default());
    declared.await.unwrap().name().clone()
}

/// Tries things out, each on a channel of its own, since a refusal closes the channel.
pub(crate) struct Attempts(Connection);

impl Attempts {
    async fn channel(&self) -> Channel {
        self.0.create_channel().await.unwrap()
    }

    async fn publish(&self, exchange: &str, key: &str) -> Result<(), lapin::Error> {
        let channel = self.channel().await;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel
            .basic_publish(exchange.into(), key.into(), options, b"{}", properties)
            .await?
            .await?;
        Ok(())
    }

    async fn bind(&self, exchange: &str, key: &str) -> Result<(), lapin::Error> {
        let channel = self.channel().await;
        let queue = own_queue(&channel).await;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(queue, exchange.into(), key.into(), options, none)
            .await
    }

    pub(crate) async fn may_publish(&self, exchange: &str, key: &str) {
        self.publish(exchange, key).await.unwrap();
    }

    pub(crate) async fn may_not_publish(&self, exchange: &str, key: &str) {
        let published = self.publish(exchange, key).await;
        assert_refused(published, &format!("publish to {exchange} with {key}"));
    }

    pub(crate) async fn may_bind(&self, exchange: &str, key: &str) {
        self.bind(exchange, key).await.unwrap();
    }

    pub(crate) async fn may_not_bind(&self, exchange: &str, key: &str) {
        let bound = self.bind(exchange, key).await;
        assert_refused(bound, &format!("bind to {exchange} with {key}"));
    }

    /// Neither as a consumer, nor one message by one.
    pub(crate) async fn may_not_consume(&self, queue: &str) {
        let (tag, none) = (ShortString::default(), FieldTable::default());
        let options = BasicConsumeOptions::default();
        let channel = self.channel().await;
        let consumed = channel
            .basic_consume(queue.into(), tag, options, none)
            .await;
        assert_refused(consumed, &format!("consume {queue}"));
        let channel = self.channel().await;
        let got = channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await;
        assert_refused(got, &format!("get from {queue}"));
    }

    pub(crate) async fn may_not_purge_or_delete(&self, queue: &str) {
        let channel = self.channel().await;
        let purged = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
        assert_refused(purged.await, &format!("purge {queue}"));
        let channel = self.channel().await;
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        assert_refused(deleted.await, &format!("delete {queue}"));
    }

    pub(crate) async fn may_not_declare(&self, queue: &str) {
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let channel = self.channel().await;
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        assert_refused(declared.await, &format!("declare {queue}"));
    }

    pub(crate) async fn close(self) {
        self.0.close(200, ShortString::default()).await.unwrap();
    }
}

/// It was refused for want of rights, and not for another reason.
fn assert_refused<T: std::fmt::Debug>(tried: Result<T, lapin::Error>, what: &str) {
    let Err(error) = tried else {
        panic!("may {what}");
    };
    let refused = matches!(error.kind(), ErrorKind::ProtocolError(it) if it.get_id() == 403)
        // The reason came between two requests on the channel.
        || matches!(error.kind(), ErrorKind::InvalidChannelState(..));
    assert!(refused, "{what}: {error}");
}
