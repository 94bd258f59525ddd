//! Work over one connection that is made anew whenever it breaks: consuming some of many queues, and
//! asking about the others. What is consumed when is for others to say.

use std::future::Future;

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
    /// When the broker is lost or refuses. A refusal is for good, unless everything had worked.
    fn serve(&mut self, session: &Session<'_>) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A connection that stands.
#[derive(Debug)]
pub struct Session<'a> {
    connection: &'a Connection,
    /// For questions; the broker closes it when there is no such queue.
    asking: Mutex<Option<Channel>>,
}

/// Serves until the work is over, over as many connections as that takes.
///
/// # Errors
/// When the broker refuses for good, or the settings cannot be used.
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

    /// How many consumers of a queue may be sent messages now.
    ///
    /// A quorum queue that does not answer its node in a quarter of a second is said to have none.
    ///
    /// # Errors
    /// When the broker is lost, or there is no such queue.
    pub async fn consumers(&self, queue: &str) -> Result<u32, Error> {
        Ok(self.ask(queue).await?.consumer_count())
    }

    async fn ask(&self, queue: &str) -> Result<lapin::Queue, Error> {
        let mut asking = self.asking.lock().await;
        let channel = match asking.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => self.connection.create_channel().await?,
        };
        let found = standing(&channel, queue).await?;
        *asking = Some(channel);
        Ok(found)
    }

    /// How many messages of a queue wait to be sent to somebody, and how many consumers there are for them;
    /// none when there is no such queue.
    ///
    /// What is said of a quorum queue is no more than a hint: see [`Session::consumers`].
    ///
    /// # Errors
    /// When the broker is lost.
    pub async fn waiting(&self, queue: &str) -> Result<Option<(u32, u32)>, Error> {
        match self.ask(queue).await {
            Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
            Err(Error::Refused(refusal)) if refusal.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the connection still stands, as far as is known.
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
            asking: Mutex::default(),
        };
        let served = self.service.serve(&session).await;
        if let Err(Error::ConsumerEnded(queue)) = &served {
            self.topology.note_deleted(queue);
        }
        if self.topology.mode == TopologyMode::Off {
            return served;
        }
        // It was all there: what is missing now was taken away meanwhile, and the next look will say so.
        served.map_err(Error::while_serving)
    }
}
