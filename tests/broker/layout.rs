//! The steps by which the number of command queues is changed: each may have been begun by somebody who
//! was cut off, and what comes in between finds its way.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use groupmq::amqp::{
    Client, CommandSource, Destination, DrainMode, Error, Incoming, Outgoing, Target, Topology,
    Transfer,
};
use groupmq::config::{Config, Sources};
use groupmq_test_support::rabbitmq::RabbitMq;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::scene::PATIENCE;

/// What a worker takes at most.
const PREFETCH: u16 = 300;

fn config(url: &str, prefix: &str) -> Config {
    let settings = [
        ("amqp.url", url),
        ("topology.prefix", prefix),
        ("topology.shards", "2"),
    ];
    let sources = Sources {
        flags: settings
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        ..Sources::default()
    };
    sources.load().unwrap()
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    (connection, channel)
}

/// Whether a queue took it.
async fn publish(channel: &Channel, exchange: &str, key: &str, body: &str) -> bool {
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let plain = BasicProperties::default();
    let (exchange, key) = (exchange.into(), key.into());
    let confirm = channel
        .basic_publish(exchange, key, mandatory, body.as_bytes(), plain)
        .await
        .unwrap();
    let confirm = confirm.await.unwrap();
    confirm.is_ack() && confirm.take_message().is_none()
}

async fn declare(channel: &Channel, queue: &str) {
    let mut arguments = FieldTable::default();
    let quorum = AMQPValue::LongString("quorum".into());
    arguments.insert("x-queue-type".into(), quorum);
    declare_with(channel, queue, arguments).await;
}

/// One in which so many messages have room; the broker refuses others.
async fn declare_small(channel: &Channel, queue: &str, room: i32) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(room));
    let refuse = AMQPValue::LongString("reject-publish".into());
    arguments.insert("x-overflow".into(), refuse);
    declare_with(channel, queue, arguments).await;
}

async fn declare_with(channel: &Channel, queue: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare(queue.into(), options, arguments)
        .await
        .unwrap();
}

/// Takes messages, and does nothing with them.
async fn hold(channel: &Channel, queue: &str, count: u16) -> lapin::Consumer {
    channel
        .basic_qos(count, BasicQosOptions::default())
        .await
        .unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    channel
        .basic_consume(queue.into(), "".into(), options, none)
        .await
        .unwrap()
}

/// Moves everything to one queue, and remembers it.
struct Into<'a> {
    queue: &'a str,
    bodies: Vec<String>,
    /// After the first messages.
    is_cut_off: bool,
}

impl<'a> Into<'a> {
    fn new(queue: &'a str) -> Self {
        Self {
            queue,
            bodies: Vec::new(),
            is_cut_off: false,
        }
    }
}

impl Transfer for Into<'_> {
    type Error = anyhow::Error;

    fn change(&mut self, message: Incoming) -> Outgoing {
        self.bodies
            .push(String::from_utf8(message.body.clone()).unwrap());
        Outgoing {
            routing_key: self.queue.to_owned(),
            body: message.body,
            ..Outgoing::default()
        }
    }

    async fn moved(&mut self) -> Result<(), anyhow::Error> {
        anyhow::ensure!(!self.is_cut_off, "cut off");
        Ok(())
    }
}

/// A queue to move messages from and one to move them to, and somebody who does it.
struct Moving {
    url: String,
    target: Target,
    client: Client,
    connection: Connection,
    publishing: Channel,
    from: String,
    to: String,
}

impl Moving {
    /// With so many messages to move: their numbers.
    async fn of(count: usize) -> Self {
        let url = RabbitMq::shared().await.unwrap().url();
        let prefix = groupmq_test_support::prefix();
        let (from, to) = (format!("{prefix}.from"), format!("{prefix}.to"));
        let (connection, publishing) = channel(&url).await;
        declare(&publishing, &from).await;
        declare(&publishing, &to).await;
        for body in numbers(count) {
            assert!(publish(&publishing, "", &from, &body).await);
        }
        let target = Target::new(config(&url, &prefix).amqp);
        let client = Client::connect(&target).await.unwrap();
        Self {
            url,
            target,
            client,
            connection,
            publishing,
            from,
            to,
        }
    }

    async fn transfer<P: Transfer>(
        &self,
        client: &Client,
        transfer: &mut P,
    ) -> Result<u64, P::Error> {
        let until = DrainMode::Empty;
        client.transfer(&self.from, until, PREFETCH, transfer).await
    }

    async fn end(&self) {
        self.connection.close(200, "".into()).await.unwrap();
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn what_another_has_in_hand_is_moved_too_and_in_its_place() {
    const ALL: usize = 300;
    let scene = Moving::of(ALL).await;
    // Somebody was killed, and the broker has not noticed yet.
    let (dead, holding) = channel(&scene.url).await;
    let _held = hold(&holding, &scene.from, 100).await;
    let mut moved = Into::new(&scene.to);
    let noticing = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        dead.close(200, "".into()).await.unwrap();
    };
    let (count, ()) = tokio::join!(scene.transfer(&scene.client, &mut moved), noticing);
    assert_eq!(count.unwrap(), ALL as u64);
    assert_eq!(moved.bodies, numbers(ALL));
    scene.end().await;
}

/// As on a broker that is slow: what comes while one looks whether something is left.
#[tokio::test]
async fn what_comes_late_is_moved_too() {
    let scene = Moving::of(0).await;
    // Wherever in its doing it is met.
    for late in (0..=700).step_by(50) {
        let mut moved = Into::new(&scene.to);
        let coming = async {
            tokio::time::sleep(Duration::from_millis(late)).await;
            assert!(publish(&scene.publishing, "", &scene.from, "late").await);
        };
        let (count, ()) = tokio::join!(scene.transfer(&scene.client, &mut moved), coming);
        let (left, _) = scene.client.queue(&scene.from).await.unwrap();
        // What comes when it is over is simply there.
        let count = count.unwrap() + u64::from(left);
        assert_eq!(count, 1, "after {late} ms");
        assert!(left == 0 || late >= 500, "left there after {late} ms");
        let from = scene.from.as_str().into();
        let purged = scene
            .publishing
            .queue_purge(from, QueuePurgeOptions::default());
        purged.await.unwrap();
    }
    scene.end().await;
}

/// RabbitMQ 3 puts what is given back behind what was given back before.
#[tokio::test]
async fn what_a_worker_gave_back_keeps_its_order_when_moving_it_is_cut_off() {
    const ALL: usize = 500;
    let scene = Moving::of(ALL).await;
    let (worker, holding) = channel(&scene.url).await;
    let mut held = hold(&holding, &scene.from, PREFETCH).await;
    for _ in 0..PREFETCH {
        held.next().await.unwrap().unwrap();
    }
    worker.close(200, "".into()).await.unwrap();
    let mut moved = Into::new(&scene.to);
    moved.is_cut_off = true;
    for _ in 0..2 {
        let client = Client::connect(&scene.target).await.unwrap();
        let cut_off = scene.transfer(&client, &mut moved).await;
        assert_eq!(cut_off.unwrap_err().to_string(), "cut off");
        client.close().await;
    }
    let mut moved = Into::new(&scene.to);
    let count = scene.transfer(&scene.client, &mut moved).await;
    assert_eq!(count.unwrap(), ALL as u64);
    assert_eq!(moved.bodies, numbers(ALL));
    scene.end().await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_offered_again_until_it_takes_it() {
    let scene = Moving::of(6).await;
    let small = format!("{}.small", scene.to);
    declare_small(&scene.publishing, &small, 5).await;
    let mut moved = Into::new(&small);
    let mut moving = pin!(scene.transfer(&scene.client, &mut moved));
    let early = tokio::time::timeout(Duration::from_secs(2), &mut moving).await;
    assert!(early.is_err(), "the sixth has no room: {early:?}");
    let purged = scene
        .publishing
        .queue_purge(small.as_str().into(), QueuePurgeOptions::default());
    assert_eq!(purged.await.unwrap(), 5);
    assert_eq!(moving.await.unwrap(), 6);
    assert_eq!(scene.client.queue(&small).await.unwrap().0, 1);
    scene.end().await;
}

/// Offered again, it would come after what came after it.
#[tokio::test]
async fn what_the_broker_refuses_stays_where_it_is_when_a_later_message_was_taken() {
    let scene = Moving::of(0).await;
    let full = format!("{}.full", scene.to);
    declare_small(&scene.publishing, &full, 1).await;
    assert!(publish(&scene.publishing, "", &full, "there").await);
    for queue in [&full, &scene.to] {
        assert!(publish(&scene.publishing, "", &scene.from, queue).await);
    }
    let client = Client::connect(&scene.target).await.unwrap();
    let error = scene.transfer(&client, &mut ByBody).await.unwrap_err();
    let refused = matches!(&error, Error::NotMoved(queue) if *queue == full);
    assert!(refused, "{error}");
    client.close().await;
    let mut moved = Into::new(&scene.to);
    let count = scene.transfer(&scene.client, &mut moved).await;
    assert_eq!(count.unwrap(), 2);
    assert_eq!(moved.bodies, [full, scene.to.clone()]);
    scene.end().await;
}

/// Moves each message to the queue that it names.
struct ByBody;

impl Transfer for ByBody {
    type Error = Error;

    fn change(&mut self, message: Incoming) -> Outgoing {
        Outgoing {
            routing_key: String::from_utf8(message.body.clone()).unwrap(),
            body: message.body,
            ..Outgoing::default()
        }
    }

    async fn moved(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn what_comes_back_while_shards_are_laid_out_again_finds_a_way() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let config = config(&broker.url(), &prefix);
    let topology = Topology::new(&config.topology);
    let names = topology.names().clone();
    let client = Client::connect(&Target::new(config.amqp)).await.unwrap();
    client.ensure(&topology).await.unwrap();
    client.declare_holding_queues(&names).await.unwrap();
    let shards = Destination::Shards(2);
    for flow in [CommandSource::New, CommandSource::Back] {
        client
            .rebind(&names, flow, shards, Destination::Held)
            .await
            .unwrap();
    }
    let (connection, publishing) = channel(&broker.url()).await;
    let over = Cell::new(false);
    let coming_back = async {
        let mut count = 0;
        while !over.get() {
            assert!(publish(&publishing, &names.back(), "default", "{}").await);
            count += 1;
        }
        count
    };
    let laying_out = async {
        // Cut off after all of it, and begun once more.
        for _ in 0..10 {
            client.declare_shards(&topology, 2).await.unwrap();
            client
                .rebind(&names, CommandSource::Back, Destination::Held, shards)
                .await
                .unwrap();
        }
        over.set(true);
    };
    let both = async { tokio::join!(coming_back, laying_out) };
    let (count, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    println!("{count} came back meanwhile");
    // Where everything goes that finds none.
    let (lost, _) = client.queue(&names.orphan()).await.unwrap();
    assert_eq!(lost, 0);
    client.delete_holding_queues(&names).await.unwrap();
    connection.close(200, "".into()).await.unwrap();
}

#[tokio::test]
async fn only_one_changes_the_shards_at_a_time() {
    let broker = RabbitMq::shared().await.unwrap();
    let config = config(&broker.url(), &groupmq_test_support::prefix());
    let names = Topology::new(&config.topology).names().clone();
    let target = Target::new(config.amqp);
    let one = Client::connect(&target).await.unwrap();
    one.lock_shards(&names).await.unwrap();
    let other = Client::connect(&target).await.unwrap();
    let mut second = pin!(other.lock_shards(&names));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut second).await;
    assert!(early.is_err(), "two at once: {early:?}");
    one.close().await;
    let later = tokio::time::timeout(PATIENCE, second).await;
    later.unwrap().unwrap();
}
