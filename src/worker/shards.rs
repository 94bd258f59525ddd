//! Distributing the command queues among the workers, without a coordinator.
//!
//! Every worker consumes the presence queue, so the number of its consumers is the number of live workers.
//! Each takes its quota of the shards that have no consumer, one by one, by raising their epoch in the
//! store (`store::shards`); of several that try at once, one succeeds. Surplus shards are handed back: no
//! more commands are started, started ones are finished and acknowledged, then the channel closes. The
//! broker keeps one consumer of a queue active, and the epoch fences off a former owner that does not know
//! yet that it was replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::seq::SliceRandom as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::amqp::{self, Consumer, Names, Session, Window};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::Store;
use crate::store::shards::{Fence, Ownership};

use super::Worker;
use super::lost_search::{self, LostSearch, SearchError};
use super::owned_shard::OwnedShard;
use super::quota::{self, Counts};

/// The interval of checking the shards.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// The time limit for recording that a shard is handed back; other workers also detect it without the
/// record.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(2);

/// The minimum prefetch count of a shard, so that a single busy one is not starved.
const PREFETCH_MIN: u16 = 32;

/// The maximum number of shards that are taken over at the same time.
const TAKEN_TOGETHER: usize = 8;

/// The dependencies of the distribution.
#[derive(Debug)]
pub struct Parts {
    /// The worker that executes the commands.
    pub worker: Arc<Worker>,
    /// The names of the queues.
    pub names: Names,
    /// The number of shards.
    pub shards: u16,
    /// The maximum number of unacknowledged commands of this process, over all shards.
    pub prefetch: u16,
    /// A deferred command that was not found for this long is lost.
    pub lost_after: Duration,
    /// Why nothing may be consumed yet; none once all destinations of its events are set up.
    pub unprepared: watch::Receiver<Option<String>>,
    /// The store with epochs and owners.
    pub store: Store,
    /// The process's lifecycle.
    pub lifecycle: Lifecycle,
}

/// This worker's part of the distribution; served over a separate connection.
#[derive(Debug)]
pub struct ShardDistribution {
    parts: Parts,
    places: Arc<Semaphore>,
    taking_part: watch::Sender<bool>,
}

/// The state that a worker keeps between two checks.
#[derive(Debug, Default)]
struct Known {
    owned: BTreeMap<u16, Arc<OwnedShard>>,
    /// Shards without a consumer whose owner was alive at the last check.
    abandoned: BTreeSet<u16>,
    /// When lost commands were last searched for.
    searched_at: Option<Instant>,
}

/// A shard that was just taken over, and its consumer.
type Opened = (Arc<OwnedShard>, Consumer);

impl ShardDistribution {
    /// Makes it, and a value to watch: whether this worker has its quota.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, watch::Receiver<bool>) {
        let (taking_part, is_taking_part) = watch::channel(false);
        let places = Arc::new(Semaphore::new(usize::from(parts.prefetch)));
        (
            Self {
                parts,
                places,
                taking_part,
            },
            is_taking_part,
        )
    }

    /// Checks the shards, takes over and hands back, until the process stops.
    async fn share(
        &self,
        session: &Session<'_>,
        opened: mpsc::Sender<Opened>,
    ) -> Result<(), amqp::Error> {
        let mut known = Known::default();
        let stopping = self.parts.lifecycle.stopping();
        let mut stopping = pin!(stopping);
        loop {
            // If a check is interrupted, at most shards with our name and no consumer remain.
            tokio::select! {
                checked = self.check(session, &mut known, &opened) => checked?,
                () = &mut stopping => break,
            }
            tokio::select! {
                () = tokio::time::sleep(CHECK_EVERY) => {}
                () = &mut stopping => break,
            }
        }
        for shard in known.owned.values() {
            shard.begin_handback();
        }
        Ok(())
    }

    async fn check(
        &self,
        session: &Session<'_>,
        known: &mut Known,
        opened: &mpsc::Sender<Opened>,
    ) -> Result<(), amqp::Error> {
        known.owned.retain(|_, shard| !shard.is_over());
        let workers = session.consumers(&self.parts.names.presence()).await?;
        let Ok(workers) = usize::try_from(workers) else {
            return Ok(());
        };
        // We are one of them: the broker is too busy to count.
        if workers == 0 {
            return Ok(());
        }
        let checked = async {
            if self.settle(session, workers, known, opened).await? {
                self.taking_part.send_replace(true);
                let owned = || known.owned.values();
                let has = |queue: &str| owned().any(|it| it.fence.queue() == queue);
                self.parts.worker.note_queues(has);
            }
            self.search(session, known).await
        };
        match checked.await {
            Ok(()) => {}
            Err(SearchError::Broker(error)) => return Err(error),
            // Retried with the next check.
            Err(SearchError::Store(error)) if error.is_outage() => {}
            Err(SearchError::Store(error)) => events::store_refused(&error),
        }
        let owned = known.owned.values().filter(|shard| !shard.is_over());
        events::lanes_paused(owned.clone().map(|shard| shard.lanes.count()).sum());
        events::shards_held(owned.count());
        Ok(())
    }

    /// Searches periodically for lost commands.
    async fn search(&self, session: &Session<'_>, known: &mut Known) -> Result<(), SearchError> {
        let lost_after = self.parts.lost_after;
        let pause = lost_search::pause(lost_after);
        if known.searched_at.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        known.searched_at = Some(Instant::now());
        let search = LostSearch {
            session,
            names: &self.parts.names,
            shards: self.parts.shards,
            places: &self.places,
            ledger: self.parts.store.ledger(),
            lost_after,
            now: self.parts.worker.now(),
        };
        let owned: Vec<_> = known.active().cloned().collect();
        search.search(&owned).await
    }

    /// Brings the number of owned shards closer to the quota; true when there is nothing more to take now.
    async fn settle(
        &self,
        session: &Session<'_>,
        workers: usize,
        known: &mut Known,
        opened: &mpsc::Sender<Opened>,
    ) -> Result<bool, SearchError> {
        let ownerships = self.parts.store.shards().all().await?;
        let ownership = |number| ownerships.get(&self.parts.names.shard(number));
        for (number, shard) in &known.owned {
            if !ownership(*number).is_some_and(|it| it.is_of(&shard.fence)) {
                shard.mark_lost();
            }
        }
        let mut numbers: Vec<_> = (0..self.parts.shards)
            .filter(|number| !known.owned.contains_key(number))
            .collect();
        // So that workers that start together do not all try the same ones.
        numbers.shuffle(&mut rand::rng());
        let deserted = self.deserted(session, &numbers, workers, known).await?;
        let part = self.part(workers, &ownerships, &deserted, known);
        for shard in known.active().skip(part) {
            events::shard_handed_back(shard.number);
            shard.begin_handback();
        }
        let mut settled = true;
        let mut numbers = numbers.into_iter();
        loop {
            let lacking = part.saturating_sub(known.active().count());
            let count = lacking.min(TAKEN_TOGETHER);
            let mut free = Vec::new();
            while free.len() < count
                && let Some(number) = numbers.next()
            {
                let (is_deserted, ownership) = (deserted.contains(&number), ownership(number));
                if self.is_free(is_deserted, number, ownership, known).await? {
                    free.push(number);
                } else {
                    settled &= !known.abandoned.contains(&number);
                }
            }
            if free.is_empty() {
                break;
            }
            let openings = free
                .iter()
                .map(|number| self.open(session, *number, ownership(*number)));
            self.note_opened(join_all(openings).await, known, opened)
                .await?;
        }
        for number in numbers {
            self.disown(ownership(number), number).await?;
        }
        Ok(settled)
    }

    /// Hands those that were taken over to the task that consumes them; an error of others comes after.
    async fn note_opened(
        &self,
        openings: Vec<Result<Option<Opened>, SearchError>>,
        known: &mut Known,
        opened: &mpsc::Sender<Opened>,
    ) -> Result<(), SearchError> {
        let mut failed = Ok(());
        for opening in openings {
            match opening {
                Ok(Some((shard, consumer))) => {
                    known.abandoned.remove(&shard.number);
                    known.owned.insert(shard.number, Arc::clone(&shard));
                    // Closed only if this is cancelled as well.
                    opened.send((shard, consumer)).await.ok();
                }
                Ok(None) => {}
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    /// Those of the given shards that have no consumer; not queried if all workers have the same number.
    async fn deserted(
        &self,
        session: &Session<'_>,
        numbers: &[u16],
        workers: usize,
        known: &Known,
    ) -> Result<BTreeSet<u16>, SearchError> {
        let shards = usize::from(self.parts.shards);
        if shards.is_multiple_of(workers) && known.active().count() == shards / workers {
            return Ok(BTreeSet::new());
        }
        let queue = |number: &u16| self.parts.names.shard(*number);
        let queues: Vec<_> = numbers.iter().map(queue).collect();
        let counts = session.consumers_of(&queues).await?;
        let deserted = numbers.iter().zip(counts).filter(|(_, count)| *count == 0);
        Ok(deserted.map(|(number, _)| *number).collect())
    }

    /// The number of shards that this worker should own. A worker that is still recorded as the owner of a
    /// shard without a consumer is gone, or has lost it.
    fn part(
        &self,
        workers: usize,
        ownerships: &BTreeMap<String, Ownership>,
        deserted: &BTreeSet<u16>,
        known: &Known,
    ) -> usize {
        let me = self.parts.store.workers();
        let mut counts = Counts::new();
        for number in (0..self.parts.shards).filter(|number| !deserted.contains(number)) {
            let ownership = ownerships.get(&self.parts.names.shard(number));
            if let Some(owner) = ownership.and_then(|it| it.owner.as_deref())
                && owner != me.me()
            {
                *counts.entry(owner).or_default() += 1;
            }
        }
        counts.insert(me.me(), known.active().count());
        quota::shards_for(me.me(), usize::from(self.parts.shards), workers, &counts)
    }

    /// Whether a shard may be taken over. If its owner seems to be alive, it may just be starting, or the
    /// broker is too busy to count, so such a shard is checked twice.
    async fn is_free(
        &self,
        is_deserted: bool,
        number: u16,
        ownership: Option<&Ownership>,
        known: &mut Known,
    ) -> Result<bool, SearchError> {
        if !is_deserted {
            known.abandoned.remove(&number);
            return Ok(false);
        }
        let workers = self.parts.store.workers();
        let owner = ownership.and_then(|ownership| ownership.owner.as_deref());
        let alive = match owner.filter(|owner| *owner != workers.me()) {
            Some(owner) => workers.is_alive(owner).await?,
            None => false,
        };
        Ok(!alive || !known.abandoned.insert(number))
    }

    /// Takes a shard over and begins to consume it, unless another worker was faster.
    async fn open(
        &self,
        session: &Session<'_>,
        number: u16,
        ownership: Option<&Ownership>,
    ) -> Result<Option<Opened>, SearchError> {
        let queue = self.parts.names.shard(number);
        let shards = self.parts.store.shards();
        let Some(fence) = shards.take_over(&queue, ownership).await? else {
            return Ok(None);
        };
        // After the takeover: no other worker changes them from here on.
        let shard = OwnedShard::new(number, fence, &self.parts.store.lanes());
        shard.lanes.reload(self.parts.worker.now()).await?;
        let consumer = session.consume(&queue, self.window()).await?;
        events::shard_taken_over(number);
        Ok(Some((Arc::new(shard), consumer)))
    }

    /// The prefetch window of a shard: the same for every worker, however many shards it has. The broker
    /// requeues the messages that a consumer returns behind those that earlier consumers returned, so a
    /// consumer with a smaller window would reorder commands when returning them.
    fn window(&self) -> Window {
        let prefetch = self.parts.prefetch;
        Window {
            prefetch: prefetch
                .div_ceil(self.parts.shards.max(1))
                .max(PREFETCH_MIN.min(prefetch)),
            places: Arc::clone(&self.places),
        }
    }

    /// Releases a shard that is recorded as ours although we neither own nor want it.
    async fn disown(&self, ownership: Option<&Ownership>, number: u16) -> Result<(), SearchError> {
        let me = self.parts.store.workers();
        if let Some(ownership) = ownership
            && ownership.owner.as_deref() == Some(me.me())
        {
            let fence = ownership.fence(&self.parts.names.shard(number));
            self.parts.store.shards().hand_back(&fence).await?;
        }
        Ok(())
    }

    /// Consumes the shards that were taken over, until no more are taken over and all have been handed
    /// back.
    async fn consume(
        &self,
        session: &Session<'_>,
        presence: Consumer,
        mut opened: mpsc::Receiver<Opened>,
    ) -> Result<(), amqp::Error> {
        let leaving = CancellationToken::new();
        let mut present = pin!(presence.run(leaving.clone(), drop));
        let mut is_present = true;
        let mut consuming = FuturesUnordered::new();
        loop {
            // Every branch is cancel-safe.
            tokio::select! {
                left = &mut present, if is_present => {
                    left?;
                    is_present = false;
                }
                next = opened.recv(), if !leaving.is_cancelled() => match next {
                    Some((shard, consumer)) => consuming.push(self.hold(session, shard, consumer)),
                    // Stopping: the other workers may count without us from now on.
                    None => leaving.cancel(),
                },
                Some(ended) = consuming.next(), if !consuming.is_empty() => ended?,
                else => return Ok(()),
            }
        }
    }

    async fn hold(
        &self,
        session: &Session<'_>,
        shard: Arc<OwnedShard>,
        consumer: Consumer,
    ) -> Result<(), amqp::Error> {
        // Also when this is dropped: then the connection is gone.
        let _over = shard.over_when_dropped();
        let take = |delivery| Arc::clone(&self.parts.worker).take(&shard, delivery);
        match consumer.run(shard.ending(), take).await {
            Ok(()) => {
                self.hand_back(&shard.fence).await;
                Ok(())
            }
            Err(error @ amqp::Error::ConsumerEnded(_)) => Err(error),
            Err(error) if !session.stands() => Err(error.while_serving()),
            Err(error) => {
                events::shard_channel_lost(shard.number, &error);
                Ok(())
            }
        }
    }

    async fn hand_back(&self, fence: &Fence) {
        let shards = self.parts.store.shards();
        let recorded = tokio::time::timeout(HAND_BACK_WITHIN, shards.hand_back(fence)).await;
        if let Ok(Err(error)) = recorded
            && !error.is_outage()
        {
            events::store_refused(&error);
        }
    }
}

impl amqp::SessionTask for ShardDistribution {
    async fn serve(&mut self, session: &Session<'_>) -> Result<(), amqp::Error> {
        let prepared = self.parts.unprepared.wait_for(Option::is_none);
        if prepared.await.is_err() {
            // The process stops first.
            return Ok(());
        }
        let window = Window {
            prefetch: 1,
            places: Arc::new(Semaphore::new(1)),
        };
        let queue = self.parts.names.presence();
        let presence = session.consume(&queue, window).await?;
        let (opened, opens) = mpsc::channel(usize::from(self.parts.shards));
        let served = tokio::try_join!(
            self.share(session, opened),
            self.consume(session, presence, opens)
        );
        self.taking_part.send_replace(false);
        events::shards_held(0);
        served.map(drop)
    }
}

impl Known {
    /// Shards that are being processed and not handed back.
    fn active(&self) -> impl Iterator<Item = &Arc<OwnedShard>> {
        self.owned.values().filter(|shard| !shard.is_ending())
    }
}
