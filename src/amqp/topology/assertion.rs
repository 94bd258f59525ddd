//! Declaring or checking the whole topology over one connection.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::BasicQosOptions;
use lapin::types::ShortString;
use lapin::{Channel, Connection};
use parking_lot::{Mutex as SyncMutex, MutexGuard};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::amqp::Error;
use crate::config::TopologyMode;
use crate::observability::events;

use super::piece::{Piece, exchange};
use super::{Scope, Topology, is_there, unopened};

/// RabbitMQ 3.10 does not notify a consumer that its queue was deleted if the queue exists again by the
/// time it checks; the consumer would be lost. So a missing queue is declared again only after this time.
pub const DELETION_NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// The time limit for one exchange, queue or binding.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The state of the topology that the connections of a process share.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When the last completed assertion began. Assertions run one at a time: RabbitMQ 3.10 now and then
    /// fails (541) over a quorum queue that several connections declare at once.
    turn: Mutex<Option<Instant>>,
    /// The whole topology existed once.
    stood: AtomicBool,
    /// An exchange was declared to which dependents are not bound yet.
    is_unbound: AtomicBool,
    /// A queue that was deleted while this process consumed it.
    // A std mutex: held briefly and never across an await.
    deleted: SyncMutex<Option<String>>,
    pub(super) doubt: Doubt,
}

/// Signals that something may be missing, so that the whole topology is asserted at once.
#[derive(Debug, Clone, Default)]
pub struct Doubt(Arc<Notify>);

impl Doubt {
    /// Requests an assertion of the whole topology.
    pub fn raise(&self) {
        self.0.notify_one();
    }

    /// Waits for such a request.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn raised(&self) {
        self.0.notified().await;
    }
}

impl Topology {
    /// Declares or checks what is missing, as the mode says; run-time bindings only where their exchange
    /// was missing. The upkeep asserts the others in the background.
    pub(in crate::amqp) async fn ensure(&self, connection: &Connection) -> Result<(), Error> {
        let requested = Instant::now();
        // At the start, endpoints declare their queues separately.
        let has_stood = self.standing.stood.load(Ordering::Relaxed);
        let ensured = self.assert(connection, Some(requested)).await.map(drop);
        // The upkeep names a queue that cannot be opened.
        if has_stood || matches!(ensured, Err(Error::Unopened { .. })) {
            self.standing.doubt.raise();
        }
        ensured
    }

    /// The same with every run-time binding; returns the bindings that failed, with the reason.
    pub(in crate::amqp) async fn ensure_every_binding(
        &self,
        connection: &Connection,
    ) -> Result<Vec<String>, Error> {
        self.assert(connection, None).await
    }

    /// Declares everything except the command queues and the routes to them, and no run-time bindings.
    pub(in crate::amqp) async fn ensure_all_but_commands(
        &self,
        connection: &Connection,
    ) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        let pieces = self.common.iter().chain([&self.back, &self.events]);
        declare(&channel, pieces).await?;
        Ok(channel.close(200, ShortString::default()).await?)
    }

    /// The handle to signal that something may be missing.
    #[must_use]
    pub fn doubt(&self) -> Doubt {
        self.standing.doubt.clone()
    }

    /// Records that a queue was deleted while this process consumed it. That it is missing does not mean
    /// another number of shards, since the number cannot change while there are consumers.
    pub(in crate::amqp) fn note_deleted(&self, queue: &str) {
        *self.deleted() = Some(queue.to_owned());
    }

    fn deleted(&self) -> MutexGuard<'_, Option<String>> {
        self.standing.deleted.lock()
    }

    /// If `since` is given, an assertion that began since then is enough.
    async fn assert(
        &self,
        connection: &Connection,
        since: Option<Instant>,
    ) -> Result<Vec<String>, Error> {
        let mut last = self.standing.turn.lock().await;
        let is_done = |since| last.is_some_and(|begun| begun >= since);
        if since.is_some_and(is_done) {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        in_time(self.claim(connection)).await?;
        if self.mode == TopologyMode::Off {
            *last = Some(begun);
            return Ok(Vec::new());
        }
        if self.scope == Scope::Everything {
            self.ensure_shards(connection).await?;
        }
        let has_stood = self.standing.stood.load(Ordering::Relaxed);
        if !(has_stood && self.is_unchanged(connection, since.is_some()).await?) {
            self.complete(connection).await?;
        }
        let mut bound = None;
        if let Some(dependents) = &self.dependents
            && self.standing.is_unbound.load(Ordering::Relaxed)
        {
            bound = Some(dependents.bind().await.map_err(Error::NotBound)?);
            self.standing.is_unbound.store(false, Ordering::Relaxed);
        }
        // The queue exists again.
        self.deleted().take();
        *last = Some(begun);
        // There may be many of them, and the connections need not wait for those that are bound.
        drop(last);
        match (bound, &self.dependents) {
            (None, Some(dependents)) if since.is_none() => {
                dependents.bind().await.map_err(Error::NotBound)
            }
            (bound, _) => Ok(bound.unwrap_or_default()),
        }
    }

    /// Asserts what this process has asserted before, without waiting for the answer to each request, since a
    /// hundred round trips would delay every reconnection. False if the broker refuses one of them.
    ///
    /// On a reconnection it does not wait for the queues either: a busy one answers its node after up to a
    /// quarter of a second.
    async fn is_unchanged(
        &self,
        connection: &Connection,
        is_reconnection: bool,
    ) -> Result<bool, Error> {
        let asked = in_time(async {
            let channel = connection.create_channel().await?;
            let required = self.required();
            if is_reconnection {
                for piece in &required {
                    piece.ensure_unanswered(&channel, true).await?;
                }
                answered(&channel).await?;
            } else {
                try_join_all(required.iter().map(|piece| piece.ensure(&channel, true))).await?;
            }
            if self.mode == TopologyMode::Declare {
                for piece in self.own().filter(|piece| !is_queue(piece)) {
                    piece.ensure_unanswered(&channel, false).await?;
                }
                answered(&channel).await?;
            }
            Ok(channel.close(200, ShortString::default()).await?)
        });
        match asked.await {
            Ok(()) => Ok(true),
            Err(error @ Error::TimedOut(..)) => Err(error),
            // The answer does not say which request is refused.
            Err(_) if connection.status().connected() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Declares or checks what is missing, piece by piece, and names what is refused.
    async fn complete(&self, connection: &Connection) -> Result<(), Error> {
        let missing = missing(connection, self.required()).await?;
        if self.mode == TopologyMode::Passive {
            if !missing.is_empty() {
                return Err(Error::Missing(words(&missing)));
            }
            self.standing.stood.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.put_back(connection, &missing).await
    }

    /// The parts that this process needs, whichever process declares them.
    fn required(&self) -> Vec<Piece> {
        match self.scope {
            Scope::Everything => self.all().cloned().collect(),
            Scope::Deliveries | Scope::Requests => {
                let own = self.own().cloned();
                own.chain(self.awaited()).collect()
            }
        }
    }

    /// The parts that this process declares, the events exchange last.
    fn own(&self) -> Box<dyn Iterator<Item = &Piece> + Send + '_> {
        match self.scope {
            Scope::Everything => Box::new(self.all()),
            Scope::Deliveries => Box::new(self.common.iter().chain([&self.events])),
            Scope::Requests => Box::new(std::iter::empty()),
        }
    }

    /// The parts that other processes declare.
    fn awaited(&self) -> Vec<Piece> {
        match self.scope {
            Scope::Everything => Vec::new(),
            Scope::Deliveries => vec![self.back.clone()],
            Scope::Requests => {
                let commands = exchange(self.names.commands(), lapin::ExchangeKind::Topic);
                vec![commands, self.events.clone()]
            }
        }
    }

    async fn put_back(&self, connection: &Connection, missing: &[Piece]) -> Result<(), Error> {
        let awaited = self.awaited();
        let lacks = |piece: &Piece| missing.iter().any(|it| it.is_same(piece));
        let foreign: Vec<_> = awaited.iter().filter(|it| lacks(it)).cloned().collect();
        // Without a command queue nothing has been declared yet, so no bindings are lost on what is
        // declared now.
        let first_shard = self.names.shard(0);
        if !foreign.is_empty() && in_time(is_there(connection, &first_shard)).await? {
            return Err(Error::Awaited(words(&foreign)));
        }
        let is_unbound = lacks(&self.events) || lacks(&self.back);
        if is_unbound && let Some(dependents) = &self.dependents {
            // Without them, events would be published without reaching endpoints that this process does not
            // know.
            dependents.known().await.map_err(Error::NotBound)?;
            self.standing.is_unbound.store(true, Ordering::Relaxed);
        }
        if lacks_some_queue(missing, self.own()) {
            tokio::time::sleep(DELETION_NOTICED_WITHIN).await;
        }
        let channel = in_time(async { Ok(connection.create_channel().await?) }).await?;
        declare(&channel, foreign.iter()).await?;
        // Declaring compares arguments, which is done once. Later, a queue that existed a moment ago is not
        // declared: one that is deleted at this moment would exist again before its consumer is notified.
        let has_stood = self.standing.stood.load(Ordering::Relaxed);
        let is_left = |piece: &Piece| has_stood && is_queue(piece) && !lacks(piece);
        let wanted: Vec<_> = self.own().filter(|piece| !is_left(piece)).collect();
        declare(&channel, wanted.into_iter()).await?;
        in_time(async { Ok(channel.close(200, ShortString::default()).await?) }).await?;
        self.standing.stood.store(true, Ordering::Relaxed);
        if !missing.is_empty() {
            events::topology_made(&words(missing), has_stood);
        }
        Ok(())
    }

    /// Checks that the number of command queues is as configured: adding or removing some would route
    /// sessions to another queue while their earlier commands still wait.
    async fn ensure_shards(&self, connection: &Connection) -> Result<(), Error> {
        let is_there = |queue: String| async move { in_time(is_there(connection, &queue)).await };
        let shard = |number| self.names.shard(number);
        let last = shard(self.shards.saturating_sub(1));
        let (is_held, has_more, has_first, has_last) = tokio::try_join!(
            is_there(self.names.held()),
            is_there(shard(self.shards)),
            is_there(shard(0)),
            is_there(last.clone()),
        )?;
        if is_held {
            return Err(Error::Resharding(self.names.prefix().to_owned()));
        }
        let other = |found| Error::OtherShards {
            prefix: self.names.prefix().to_owned(),
            found,
            wanted: self.shards,
        };
        if has_more {
            return Err(other("more"));
        }
        // The first is declared last: if it exists, all do, unless the last one was deleted.
        if has_first && !has_last && self.deleted().as_ref() != Some(&last) {
            return Err(other("fewer"));
        }
        Ok(())
    }
}

/// Whether some of the queues are missing; if all are, none has had a consumer.
fn lacks_some_queue<'a>(missing: &[Piece], own: impl Iterator<Item = &'a Piece>) -> bool {
    let lacking = missing.iter().filter(|it| is_queue(it)).count();
    lacking > 0 && lacking < own.filter(|it| is_queue(it)).count()
}

const fn is_queue(piece: &Piece) -> bool {
    matches!(piece, Piece::Queue { .. })
}

/// Waits until the broker has processed everything that was sent over a channel.
async fn answered(channel: &Channel) -> Result<(), Error> {
    // Changes nothing here.
    let unlimited = channel.basic_qos(0, BasicQosOptions::default());
    Ok(unlimited.await?)
}

/// Limits the wait for the broker: the answer to a request that was made while the connection was lost may
/// never come, and all connections wait for the lock meanwhile.
pub(super) async fn in_time<T>(
    requested: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, requested).await;
    answered.unwrap_or(Err(Error::TimedOut(
        ANSWER_WITHIN,
        "looking after the topology",
    )))
}

async fn declare<'a>(
    channel: &Channel,
    pieces: impl Iterator<Item = &'a Piece> + Send,
) -> Result<(), Error> {
    for piece in pieces {
        let declared = in_time(piece.ensure(channel, false)).await;
        declared.map_err(|error| name_piece(piece, error))?;
    }
    Ok(())
}

fn name_piece(piece: &Piece, error: Error) -> Error {
    match piece {
        Piece::Queue { name, .. } => unopened(name, error),
        _ => error,
    }
}

/// The parts that do not exist; bindings cannot be checked.
async fn missing(connection: &Connection, pieces: Vec<Piece>) -> Result<Vec<Piece>, Error> {
    let mut missing = Vec::new();
    let mut open = None;
    for piece in pieces {
        let channel = match open.take() {
            Some(channel) => channel,
            None => in_time(async { Ok(connection.create_channel().await?) }).await?,
        };
        match in_time(piece.ensure(&channel, true)).await {
            Ok(()) => open = Some(channel),
            Err(error) => match name_piece(&piece, error) {
                // The broker has closed the channel.
                Error::Refused(refusal) if refusal.code == 404 => missing.push(piece),
                error => return Err(error),
            },
        }
    }
    if let Some(channel) = open {
        in_time(async { Ok(channel.close(200, ShortString::default()).await?) }).await?;
    }
    Ok(missing)
}

fn words(pieces: &[Piece]) -> Vec<String> {
    pieces.iter().map(Piece::label).collect()
}
