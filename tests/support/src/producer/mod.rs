//! A producer of commands that also collects what comes back, and keeps at it while the broker is
//! stopped, killed or cut off: what was not confirmed is sent again, with the same id.
//!
//! Replies to `reply_to`, replies on the exchange and events each have a durable queue of their own,
//! so that none is missed while nobody listens. A queue's messages are acknowledged once they are
//! recorded, so they may be recorded twice.

mod links;
mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

pub use seen::{Reply, Seen};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long to wait before connecting again.
const REST: Duration = Duration::from_millis(100);
/// Commands sent and not confirmed, at most.
const WINDOW: usize = 200;

/// A message for the worker.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The body; text, since most are JSON.
    pub body: Vec<u8>,
    /// The routing key: the session.
    pub session: String,
    /// The AMQP property `message_id`.
    pub message_id: Option<String>,
    /// The AMQP property `type`.
    pub message_type: Option<String>,
    /// The AMQP property `correlation_id`, by which replies are told apart.
    pub correlation_id: String,
    /// The AMQP property `reply_to`, if it is not to be the producer's own queue.
    pub reply_to: Option<String>,
    /// The AMQP property `content_type`.
    pub content_type: Option<String>,
    /// The AMQP property `content_encoding`.
    pub content_encoding: Option<String>,
}

impl Command {
    /// A well-formed command; `id` is its correlation id too.
    #[must_use]
    pub fn new(id: &str, command_type: &str, session: &str, payload: &Value) -> Self {
        let body = json!({"id": id, "type": command_type, "session": session, "payload": payload});
        Self::raw(id, session, body.to_string())
    }

    /// A message with any body.
    pub fn raw(correlation_id: &str, session: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            session: session.to_owned(),
            correlation_id: correlation_id.to_owned(),
            ..Self::default()
        }
    }

    fn properties(&self, own_queue: &str) -> BasicProperties {
        let reply_to = self.reply_to.as_deref().unwrap_or(own_queue);
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_timestamp(now())
            .with_correlation_id(self.correlation_id.as_str().into())
            .with_reply_to(reply_to.into());
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(id.as_str().into());
        }
        if let Some(name) = &self.message_type {
            properties = properties.with_type(name.as_str().into());
        }
        if let Some(content_type) = &self.content_type {
            properties = properties.with_content_type(content_type.as_str().into());
        }
        if let Some(encoding) = &self.content_encoding {
            properties = properties.with_content_encoding(encoding.as_str().into());
        }
        properties
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}

/// A message on the dead-letter queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its body, as it came.
    pub body: Vec<u8>,
    /// Its headers that are texts.
    pub headers: BTreeMap<String, String>,
    /// Its `correlation_id`.
    pub correlation_id: String,
    /// Its `content_type`.
    pub content_type: Option<String>,
    /// Its `content_encoding`.
    pub content_encoding: Option<String>,
}

/// Sends and collects. Dropping it ends both.
#[derive(Debug)]
pub struct Producer {
    /// The nodes of the broker, each tried in turn.
    urls: Vec<String>,
    prefix: String,
    link: Mutex<Option<(Connection, Channel)>>,
    seen: Arc<Seen>,
    /// Its drop ends the listening.
    listening: JoinSet<()>,
}

impl Producer {
    /// Connects and begins to listen. The exchanges and queues it needs are created, the worker's
    /// command queue excepted.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self> {
        let mut producer = Self::connect_to_any(&[url.to_owned()], prefix).await?;
        producer.collect_events();
        Ok(producer)
    }

    /// The same where the broker has several nodes, of which one may be gone. Events stay in their
    /// queue at first, since a consumer that loses a node may be sent them in another order.
    ///
    /// # Errors
    /// When none can be reached.
    pub async fn connect_to_any(urls: &[String], prefix: &str) -> Result<Self> {
        let connection = connect_to_any(urls).await?;
        links::declare(&connection.create_channel().await?, prefix).await?;
        let mut producer = Self {
            urls: urls.to_owned(),
            prefix: prefix.to_owned(),
            link: Mutex::new(None),
            seen: Arc::new(Seen::default()),
            listening: JoinSet::new(),
        };
        producer.listen(links::REPLY_TO);
        producer.listen(links::REPLIES);
        Ok(producer)
    }

    /// Begins to take events out of their queue.
    pub fn collect_events(&mut self) {
        self.listen(links::EVENTS);
    }

    fn listen(&mut self, source: &str) {
        let queue = links::queue(&self.prefix, source);
        let seen = Arc::clone(&self.seen);
        let listening = links::listen(self.urls.clone(), queue, seen);
        self.listening.spawn(listening);
    }

    /// The queue that replies are asked to.
    #[must_use]
    pub fn reply_queue(&self) -> String {
        links::queue(&self.prefix, links::REPLY_TO)
    }

    /// What has come back so far.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Sends a command; returns once the broker has confirmed that a queue has it.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn send(&self, command: Command) -> Result<()> {
        self.send_all(vec![command]).await
    }

    /// Sends commands, in their order as long as the broker lives; returns once it has confirmed
    /// that a queue has each of them.
    ///
    /// # Errors
    /// When a minute passes without any progress.
    pub async fn send_all(&self, commands: Vec<Command>) -> Result<()> {
        let mut open: BTreeMap<usize, Command> = commands.into_iter().enumerate().collect();
        let mut progress = Instant::now();
        while !open.is_empty() {
            let before = open.len();
            let error = self.offer(&mut open).await.err();
            if open.len() < before {
                progress = Instant::now();
            }
            if let Some(error) = error {
                ensure!(progress.elapsed() < PATIENCE, "cannot send: {error:#}");
                *self.link.lock().await = None;
                tokio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    /// Publishes what is open, a window at a time, and strikes out what is confirmed.
    async fn offer(&self, open: &mut BTreeMap<usize, Command>) -> Result<()> {
        let mut link = self.link.lock().await;
        let (_, channel) = match &mut *link {
            Some(link) => link,
            empty => {
                let connection = connect_to_any(&self.urls).await?;
                let channel = links::confirming(&connection).await?;
                empty.insert((connection, channel))
            }
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let exchange = format!("{}.commands", self.prefix);
        let mut confirms = FuturesUnordered::new();
        let waiting: Vec<_> = open.iter().map(|(n, it)| (*n, it.clone())).collect();
        let mut waiting = waiting.into_iter();
        loop {
            if confirms.len() < WINDOW
                && let Some((number, command)) = waiting.next()
            {
                let properties = command.properties(&self.reply_queue());
                let key = command.session.as_str().into();
                let confirm = channel
                    .basic_publish(
                        exchange.as_str().into(),
                        key,
                        options,
                        &command.body,
                        properties,
                    )
                    .await?;
                confirms.push(async move { (number, confirm.await) });
                continue;
            }
            match confirms.next().await {
                None => return Ok(()),
                Some((number, Ok(Confirmation::Ack(None)))) => {
                    open.remove(&number);
                }
                // Not taken, or returned: offered again with the rest.
                Some((_, Ok(_))) => anyhow::bail!("no queue takes commands"),
                Some((_, Err(error))) => return Err(error.into()),
            }
        }
    }

    /// Sends a command and waits for its reply to `reply_to`.
    ///
    /// # Errors
    /// When it does not come within a minute.
    pub async fn call(&self, command: Command) -> Result<Value> {
        let id = command.correlation_id.clone();
        self.send(command).await?;
        self.reply(&id).await
    }

    /// Waits for the reply to `reply_to` with a correlation id.
    ///
    /// # Errors
    /// When it does not come within a minute.
    pub async fn reply(&self, correlation_id: &str) -> Result<Value> {
        let come = |seen: &Seen| {
            let replies = seen.replies(correlation_id);
            let mut direct = replies.into_iter().filter(|reply| reply.direct);
            direct.next().map(|reply| reply.body)
        };
        self.until(PATIENCE, come)
            .await
            .with_context(|| format!("no reply for {correlation_id}"))
    }

    /// Waits until a question about what has come back has an answer.
    ///
    /// # Errors
    /// When it has none in time.
    pub async fn until<T>(
        &self,
        within: Duration,
        mut ask: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let changed = self.seen.changed();
            if let Some(answer) = ask(&self.seen) {
                return Ok(answer);
            }
            let left = within.saturating_sub(begun.elapsed());
            ensure!(!left.is_zero(), "not within {within:?}; {:?}", self.seen);
            // The end of the time is noticed above.
            tokio::time::timeout(left, changed).await.ok();
        }
    }

    /// Waits until so many different commands have a reply on the replies exchange.
    ///
    /// # Errors
    /// When they have not in time.
    pub async fn answered(&self, count: usize, within: Duration) -> Result<()> {
        self.until(within, |seen| (seen.answered() >= count).then_some(()))
            .await
    }

    /// Takes what lies on the dead-letter queue.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let connection = connect_to_any(&self.urls).await?;
        let channel = connection.create_channel().await?;
        let queue = format!("{}.dead.commands", self.prefix);
        let options = BasicGetOptions { no_ack: true };
        let mut letters = Vec::new();
        while let Some(got) = channel.basic_get(queue.as_str().into(), options).await? {
            let text = |value: &AMQPValue| match value {
                AMQPValue::LongString(text) => Some(text.to_string()),
                _ => None,
            };
            let headers = got
                .properties
                .headers()
                .iter()
                .flat_map(lapin::types::FieldTable::inner);
            let property =
                |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
            letters.push(DeadLetter {
                content_type: property(got.properties.content_type()),
                content_encoding: property(got.properties.content_encoding()),
                headers: headers
                    .filter_map(|(name, value)| Some((name.to_string(), text(value)?)))
                    .collect(),
                correlation_id: got
                    .properties
                    .correlation_id()
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                body: got.delivery.data,
            });
        }
        connection.close(200, "".into()).await?;
        Ok(letters)
    }

    /// Waits until so many messages lie on the dead-letter queue, and takes them.
    ///
    /// # Errors
    /// When they do not come within a minute.
    pub async fn dead_letters_of(&self, count: usize) -> Result<Vec<DeadLetter>> {
        let begun = Instant::now();
        let mut letters = Vec::new();
        while letters.len() < count {
            letters.extend(self.dead_letters().await?);
            ensure!(begun.elapsed() < PATIENCE, "only {} came", letters.len());
            tokio::time::sleep(REST).await;
        }
        Ok(letters)
    }
}

/// A connection that notices a dead broker within seconds.
pub(crate) async fn connect(url: &str) -> Result<Connection> {
    let url = format!("{url}?heartbeat=4");
    let connecting = Connection::connect(&url, ConnectionProperties::default());
    Ok(tokio::time::timeout(Duration::from_secs(10), connecting).await??)
}

/// The same with the first node that answers.
async fn connect_to_any(urls: &[String]) -> Result<Connection> {
    let mut last = anyhow::anyhow!("no url");
    for url in urls {
        match connect(url).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
