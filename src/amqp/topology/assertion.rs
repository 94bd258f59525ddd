//! Making the whole, or looking for it, over one connection.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{Channel, Connection};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::amqp::Error;
use crate::config::TopologyMode;
use crate::observability::events;

use super::piece::{Piece, exchange};
use super::{Scope, Topology, is_there, unopened};

/// RabbitMQ 3.10 tells nobody that the queue he consumes was deleted when it is there again by the time it
/// looks; his consumer would be gone for good. So a queue that is missing is made again after so long.
pub const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// How long the broker may take for one exchange, queue or binding.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What the links of a process know of the topology together.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When the last assertion that came to its end was begun. One at a time: RabbitMQ 3.10 now and then
    /// fails (541) over one quorum queue that several connections declare at once.
    turn: Mutex<Option<Instant>>,
    /// The whole has been there once.
    stood: AtomicBool,
    /// An exchange was made to which dependents are still to be bound.
    is_unbound: AtomicBool,
    /// A queue that was deleted while this process consumed it.
    // A std mutex: held for a look and never across an await.
    deleted: StdMutex<Option<String>>,
    pub(super) doubt: Doubt,
}

/// Where it is told that something may be missing: the whole is asserted at once then.
#[derive(Debug, Clone, Default)]
pub struct Doubt(Arc<Notify>);

impl Doubt {
    /// Has the whole asserted.
    pub fn raise(&self) {
        self.0.notify_one();
    }

    /// Waits for somebody to doubt.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn raised(&self) {
        self.0.notified().await;
    }
}

impl Topology {
    /// Makes what is missing, or looks whether it is there, as the mode says; what is bound at run time only
    /// where something it is bound to was missing. The upkeep sees to the rest, and nobody waits for that.
    pub(in crate::amqp) async fn ensure(&self, connection: &Connection) -> Result<(), Error> {
        let asked = Instant::now();
        // At the start, endpoints are put in place by themselves.
        let has_stood = self.standing.stood.load(Ordering::Relaxed);
        let ensured = self.assert(connection, Some(asked)).await.map(drop);
        // The upkeep names a queue that cannot be opened.
        if has_stood || matches!(ensured, Err(Error::Unopened { .. })) {
            self.standing.doubt.raise();
        }
        ensured
    }

    /// The same with everything that is bound at run time; returns what of that could not be bound, and why.
    pub(in crate::amqp) async fn ensure_every_binding(
        &self,
        connection: &Connection,
    ) -> Result<Vec<String>, Error> {
        self.assert(connection, None).await
    }

    /// Makes all but the command queues and the ways into them, and binds nothing at run time.
    pub(in crate::amqp) async fn ensure_all_but_commands(
        &self,
        connection: &Connection,
    ) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        let pieces = self.common.iter().chain([&self.back, &self.events]);
        declare(&channel, pieces).await?;
        Ok(channel.close(200, ShortString::default()).await?)
    }

    /// Where to tell that something may be missing.
    #[must_use]
    pub fn doubt(&self) -> Doubt {
        self.standing.doubt.clone()
    }

    /// Notes that a queue was deleted while it was consumed here: that it is missing is no sign of another
    /// number of shards, since nobody changes that while somebody consumes.
    pub(in crate::amqp) fn note_deleted(&self, queue: &str) {
        *self.deleted() = Some(queue.to_owned());
    }

    fn deleted(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        let deleted = self.standing.deleted.lock();
        deleted.unwrap_or_else(PoisonError::into_inner)
    }

    /// With a time, an assertion that was begun since then is enough.
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
        let missing = missing(connection, self.looked_for()).await?;
        if self.mode == TopologyMode::Passive {
            if !missing.is_empty() {
                return Err(Error::Missing(words(&missing)));
            }
            self.standing.stood.store(true, Ordering::Relaxed);
        } else {
            self.put_back(connection, &missing).await?;
        }
        let mut bound = None;
        if let Some(dependents) = &self.dependents
            && self.standing.is_unbound.load(Ordering::Relaxed)
        {
            bound = Some(dependents.bind().await.map_err(Error::NotBound)?);
            self.standing.is_unbound.store(false, Ordering::Relaxed);
        }
        // It is there again.
        self.deleted().take();
        *last = Some(begun);
        // There may be many of them, and no link has to wait for those that are bound.
        drop(last);
        match (bound, &self.dependents) {
            (None, Some(dependents)) if since.is_none() => {
                dependents.bind().await.map_err(Error::NotBound)
            }
            (bound, _) => Ok(bound.unwrap_or_default()),
        }
    }

    /// What this process needs, whoever makes it.
    fn looked_for(&self) -> Vec<Piece> {
        match self.scope {
            Scope::Everything => self.all().cloned().collect(),
            Scope::Deliveries | Scope::Requests => {
                let own = self.own().cloned();
                own.chain(self.awaited()).collect()
            }
        }
    }

    /// What is this process's to make, but the exchange of events.
    fn own(&self) -> Box<dyn Iterator<Item = &Piece> + Send + '_> {
        match self.scope {
            Scope::Everything => {
                Box::new(self.common.iter().chain([&self.back]).chain(&self.commands))
            }
            Scope::Deliveries => Box::new(self.common.iter().chain([&self.events])),
            Scope::Requests => Box::new(std::iter::empty()),
        }
    }

    /// What others make.
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
        // Without a command queue, nothing is there yet: nobody's bindings are missed on what is made now.
        let first_shard = self.names.shard(0);
        if !foreign.is_empty() && in_time(is_there(connection, &first_shard)).await? {
            return Err(Error::Awaited(words(&foreign)));
        }
        let is_unbound = lacks(&self.events) || lacks(&self.back);
        if is_unbound && let Some(dependents) = &self.dependents {
            // Else events would be published past endpoints that nobody here knows of.
            dependents.known().await.map_err(Error::NotBound)?;
            self.standing.is_unbound.store(true, Ordering::Relaxed);
        }
        if lacks_some_queue(missing, self.own()) {
            tokio::time::sleep(TOLD_WITHIN).await;
        }
        let channel = in_time(async { Ok(connection.create_channel().await?) }).await?;
        declare(&channel, foreign.iter()).await?;
        // Declaring compares arguments, which is done once. Later on, a queue that was there a moment ago is left
        // alone: one that is deleted at this moment would come back before its consumer was told.
        let has_stood = self.standing.stood.load(Ordering::Relaxed);
        let is_left = |piece: &Piece| has_stood && is_queue(piece) && !lacks(piece);
        let wanted: Vec<_> = self.own().filter(|piece| !is_left(piece)).collect();
        declare(&channel, wanted.into_iter()).await?;
        if self.scope == Scope::Everything {
            in_time(self.events.ensure(&channel, false)).await?;
        }
        in_time(async { Ok(channel.close(200, ShortString::default()).await?) }).await?;
        self.standing.stood.store(true, Ordering::Relaxed);
        if !missing.is_empty() {
            events::topology_made(&words(missing), has_stood);
        }
        Ok(())
    }

    /// Looks whether there are other command queues than should be: adding some, or taking some away,
    /// would lead sessions elsewhere while their earlier commands still wait.
    async fn ensure_shards(&self, connection: &Connection) -> Result<(), Error> {
        let is_there = |queue: String| async move { in_time(is_there(connection, &queue)).await };
        if is_there(self.names.held()).await? {
            return Err(Error::Resharding(self.names.prefix().to_owned()));
        }
        let shard = |number| self.names.shard(number);
        let other = |found| Error::OtherShards {
            prefix: self.names.prefix().to_owned(),
            found,
            wanted: self.shards,
        };
        if is_there(shard(self.shards)).await? {
            return Err(other("more"));
        }
        // The first is declared last: where it is, all are, unless the last one was deleted.
        let last = shard(self.shards.saturating_sub(1));
        if is_there(shard(0)).await?
            && !is_there(last.clone()).await?
            && self.deleted().as_ref() != Some(&last)
        {
            return Err(other("fewer"));
        }
        Ok(())
    }
}

/// Whether some of the queues are missing; where all of them are, nobody has consumed any.
fn lacks_some_queue<'a>(missing: &[Piece], own: impl Iterator<Item = &'a Piece>) -> bool {
    let lacking = missing.iter().filter(|it| is_queue(it)).count();
    lacking > 0 && lacking < own.filter(|it| is_queue(it)).count()
}

const fn is_queue(piece: &Piece) -> bool {
    matches!(piece, Piece::Queue { .. })
}

/// Waits for the broker, but not for good: the answer to what was asked as the connection was lost may never
/// come, and all links wait for their turn meanwhile.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, asked).await;
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
        declared.map_err(|error| of_piece(piece, error))?;
    }
    Ok(())
}

fn of_piece(piece: &Piece, error: Error) -> Error {
    match piece {
        Piece::Queue { name, .. } => unopened(name, error),
        _ => error,
    }
}

/// Which of these are not there; of bindings that cannot be known.
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
            Err(error) => match of_piece(&piece, error) {
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
    pieces.iter().map(Piece::called).collect()
}
