//! Work over one connection that is renewed whenever it breaks: consuming some of many queues, and querying
//! the others. The [`SessionTask`] decides which.

use std::future::Future;

use futures_util::future::try_join_all;
use lapin::{Channel, Connection};
use tokio::sync::Mutex;

use crate::config::TopologyMode;
use crate::lifecycle::Lifecycle;

use crate::amqp::consume::consumer::{Consumer, Window};
use crate::amqp::link::supervisor::{self, ConnectionTask};
use crate::amqp::topology::standing;
use crate::amqp::{Error, Target, Topology};

/// Work that needs a connection.
pub trait SessionTask: Send {
    /// Works until the connection breaks (an error) or the work is over.
    ///
    /// # Errors
    /// When the broker is lost or refuses. A refusal is permanent, unless everything had worked.
    fn serve(&mut self, session: &Session<'_>) -> impl Future<Output = Result<(), Error>> + Send;
}

/// An open connection.
#[derive(Debug)]
pub struct Session<'a> {
    connection: &'a Connection,
    /// For queries; the broker closes it when a queue does not exist.
    queries: Mutex<Option<Channel>>,
}

/// Serves until the work is over, over as many connections as that takes.
///
/// # Errors
/// When the broker refuses permanently, or the settings cannot be used.
pub async fn keep<S: SessionTask>(
    target: Target,
    topology: Topology,
    lifecycle: Lifecycle,
    purpose: &'static str,
    service: S,
) -> Result<(), Error> {
    let mut link = SessionConnection {
        topology,
        purpose,
        service,
    };
    supervisor::keep(&target, &lifecycle, &mut link).await
}

impl Session<'_> {
    /// Begins to consume a queue.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn consume(&self, queue: &str, window: Window) -> Result<Consumer, Error> {
        let channel = self.connection.create_channel().await?;
        Consumer::begin(channel, queue, window).await
    }

    /// The number of consumers of a queue that may be sent messages now.
    ///
    /// The broker reports none for a quorum queue that does not answer its node within a quarter of a
    /// second.
    ///
    /// # Errors
    /// When the broker is lost, or the queue does not exist.
    pub async fn consumers(&self, queue: &str) -> Result<u32, Error> {
        Ok(self.query(queue).await?.consumer_count())
    }

    /// The same of several queues, in their order: asked for all at once, as each waits for its queue.
    ///
    /// # Errors
    /// When the broker is lost, or one of the queues does not exist.
    pub async fn consumers_of(&self, queues: &[String]) -> Result<Vec<u32>, Error> {
        let counts = async |channel: &Channel| {
            let all = queues.iter().map(|queue| standing(channel, queue));
            try_join_all(all).await
        };
        let found = self.ask(counts).await?;
        Ok(found.iter().map(lapin::Queue::consumer_count).collect())
    }

    async fn query(&self, queue: &str) -> Result<lapin::Queue, Error> {
        self.ask(async |channel| standing(channel, queue).await)
            .await
    }

    async fn ask<T>(
        &self,
        queries: impl AsyncFnOnce(&Channel) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut open = self.queries.lock().await;
        let channel = match open.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => self.connection.create_channel().await?,
        };
        let found = queries(&channel).await?;
        *open = Some(channel);
        Ok(found)
    }

    /// The number of ready messages of a queue and of its consumers; none when the queue does not exist.
    ///
    /// The numbers of a quorum queue are only a hint: see [`Session::consumers`].
    ///
    /// # Errors
    /// When the broker is lost.
    pub async fn waiting(&self, queue: &str) -> Result<Option<(u32, u32)>, Error> {
        match self.query(queue).await {
            Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
            Err(Error::Refused(refusal)) if refusal.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the connection is open, as far as is known.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.connection.status().connected()
    }
}

struct SessionConnection<S> {
    topology: Topology,
    purpose: &'static str,
    service: S,
}

impl<S: SessionTask> ConnectionTask for SessionConnection<S> {
    fn purpose(&self) -> &'static str {
        self.purpose
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        self.topology.ensure(connection).await?;
        let session = Session {
            connection,
            queries: Mutex::default(),
        };
        let served = self.service.serve(&session).await;
        if let Err(Error::ConsumerEnded(queue)) = &served {
            self.topology.note_deleted(queue);
        }
        if self.topology.mode == TopologyMode::Off {
            return served;
        }
        // Everything existed: what is missing now was deleted meanwhile, and the next check reports it.
        served.map_err(Error::while_serving)
    }
}
