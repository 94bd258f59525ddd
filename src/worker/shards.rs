//! Sharing the command queues out among the workers, without a coordinator.
//!
//! Every worker consumes from the presence queue, so the number of its consumers is the number of live
//! workers. Each takes its fair part of the shards: those that have no consumer, one by one, by raising
//! their epoch in the store (`store::shards`); of several that try at once, one succeeds. What is too
//! much is handed back: nothing more is begun, what has been begun is finished and acknowledged, then
//! the channel closes. The broker lets one consumer of a queue be active, and the epoch keeps out
//! whoever does not know yet that he is not the one any more.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

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
use super::lost_commands::{self, LostSearch, SearchError};
use super::owned_shard::OwnedShard;
use super::quota::{self, Counts};

/// How often a worker looks how things stand.
const LOOK: Duration = Duration::from_millis(500);

/// The deadline for recording that a shard is handed back; others find out without it.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(2);

/// No shard's part of the window is smaller, so that a single busy one is not starved.
const PREFETCH_MIN: u16 = 32;

/// What the sharing out works with.
#[derive(Debug)]
pub struct Parts {
    /// Who executes what comes.
    pub worker: Arc<Worker>,
    /// The names of the queues.
    pub names: Names,
    /// How many shards there are.
    pub shards: u16,
    /// Commands that this process holds unanswered at most, over all shards.
    pub prefetch: u16,
    /// A deferred command that was found nowhere for this long is lost.
    pub lost_after: Duration,
    /// Why nothing may be taken yet; none once everything is in place that its events go to.
    pub unprepared: watch::Receiver<Option<String>>,
    /// Where epochs and owners are.
    pub store: Store,
    /// When to stop.
    pub lifecycle: Lifecycle,
}

/// This worker's part in the sharing out; served over a connection of its own.
#[derive(Debug)]
pub struct Shards {
    parts: Parts,
    places: Arc<Semaphore>,
    taking_part: watch::Sender<bool>,
}

/// What a worker knows from one look to the next.
#[derive(Debug, Default)]
struct Known {
    owned: BTreeMap<u16, Arc<OwnedShard>>,
    /// Shards without a consumer whose owner was alive at the last look.
    abandoned: BTreeSet<u16>,
    /// When commands that do not come back were looked for last.
    searched_at: Option<Instant>,
}

/// A shard just taken over, on its way to where it is consumed.
type Opened = (Arc<OwnedShard>, Consumer);

impl Shards {
    /// Makes it, and a value to watch: whether this worker has the part that it should have.
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

    /// Looks how things stand, takes over and hands back, until the process stops.
    async fn share(
        &self,
        session: &Session<'_>,
        opened: mpsc::Sender<Opened>,
    ) -> Result<(), amqp::Error> {
        let mut known = Known::default();
        let stopping = self.parts.lifecycle.stopping();
        let mut stopping = pin!(stopping);
        loop {
            // Cut off in the middle, a look leaves at most a shard with our name and no consumer.
            tokio::select! {
                looked = self.look(session, &mut known, &opened) => looked?,
                () = &mut stopping => break,
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = &mut stopping => break,
            }
        }
        for shard in known.owned.values() {
            shard.begin_handback();
        }
        Ok(())
    }

    async fn look(
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
        let looked = async {
            if self.settle(session, workers, known, opened).await? {
                self.taking_part.send_replace(true);
                let owned = || known.owned.values();
                let has = |queue: &str| owned().any(|it| it.fence.queue() == queue);
                self.parts.worker.note_queues(has);
            }
            self.search(session, known).await
        };
        match looked.await {
            Ok(()) => {}
            Err(SearchError::Broker(error)) => return Err(error),
            // Waited for: with the next look.
            Err(SearchError::Store(error)) if error.is_outage() => {}
            Err(SearchError::Store(error)) => events::store_refused(&error),
        }
        let owned = known.owned.values().filter(|shard| !shard.is_over());
        events::lanes_paused(owned.clone().map(|shard| shard.lanes.count()).sum());
        events::shards_held(owned.count());
        Ok(())
    }

    /// Searches now and then for lost commands.
    async fn search(&self, session: &Session<'_>, known: &mut Known) -> Result<(), SearchError> {
        let lost_after = self.parts.lost_after;
        let pause = lost_commands::pause(lost_after);
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
        search.look(&owned).await
    }

    /// Brings what this worker holds closer to its part; true when there is nothing more to take now.
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
        // So that workers that begin together do not all want the same ones.
        numbers.shuffle(&mut rand::rng());
        let deserted = self.deserted(session, &numbers, workers, known).await?;
        let part = self.part(workers, &ownerships, &deserted, known);
        for shard in known.active().skip(part) {
            events::shard_handed_back(shard.number);
            shard.begin_handback();
        }
        let mut settled = true;
        for number in numbers {
            if known.active().count() >= part {
                self.disown(ownership(number), number).await?;
                continue;
            }
            let is_deserted = deserted.contains(&number);
            if !self
                .is_free(is_deserted, number, ownership(number), known)
                .await?
            {
                settled &= !known.abandoned.contains(&number);
                continue;
            }
            if let Some((shard, consumer)) = self.open(session, number, ownership(number)).await? {
                known.abandoned.remove(&number);
                known.owned.insert(number, Arc::clone(&shard));
                // Only closed when this is cut off as well.
                opened.send((shard, consumer)).await.ok();
            }
        }
        Ok(settled)
    }

    /// Those of some shards that have no consumer; not asked where all workers have the same number.
    async fn deserted(
        &self,
        session: &Session<'_>,
        numbers: &[u16],
        workers: usize,
        known: &Known,
    ) -> Result<BTreeSet<u16>, SearchError> {
        let shards = usize::from(self.parts.shards);
        let mut deserted = BTreeSet::new();
        if shards.is_multiple_of(workers) && known.active().count() == shards / workers {
            return Ok(deserted);
        }
        for number in numbers {
            let queue = self.parts.names.shard(*number);
            if session.consumers(&queue).await? == 0 {
                deserted.insert(*number);
            }
        }
        Ok(deserted)
    }

    /// How many shards are this worker's due. Whoever is still named as the owner of a shard that
    /// nobody consumes is gone, or has lost it.
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

    /// Whether a shard may be taken. Whose owner seems to be alive may just be starting, or the broker
    /// too busy to count, so such a one is looked at twice.
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

    /// How much is taken from a shard: as much by everybody, however many shards they have. The broker puts
    /// what a consumer gives back behind what earlier ones gave back, so whoever took less than that
    /// would have commands overtake each other when giving back in turn.
    fn window(&self) -> Window {
        let prefetch = self.parts.prefetch;
        Window {
            prefetch: prefetch
                .div_ceil(self.parts.shards.max(1))
                .max(PREFETCH_MIN.min(prefetch)),
            places: Arc::clone(&self.places),
        }
    }

    /// Gives up a shard that stands in our name although we do not have it, nor want it.
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

    /// Consumes what was taken over, until nothing more is taken over and all has been handed back.
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
            // Each branch can be dropped: they only wait.
            tokio::select! {
                left = &mut present, if is_present => {
                    left?;
                    is_present = false;
                }
                next = opened.recv(), if !leaving.is_cancelled() => match next {
                    Some((shard, consumer)) => consuming.push(self.hold(session, shard, consumer)),
                    // Stopping: the others may count without us from now on.
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
        let told = tokio::time::timeout(HAND_BACK_WITHIN, shards.hand_back(fence)).await;
        if let Ok(Err(error)) = told
            && !error.is_outage()
        {
            events::store_refused(&error);
        }
    }
}

impl amqp::Service for Shards {
    async fn serve(&mut self, session: &Session<'_>) -> Result<(), amqp::Error> {
        let prepared = self.parts.unprepared.wait_for(Option::is_none);
        if prepared.await.is_err() {
            // The process stops before.
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
    /// Shards that are worked on and are to stay.
    fn active(&self) -> impl Iterator<Item = &Arc<OwnedShard>> {
        self.owned.values().filter(|shard| !shard.is_ending())
    }
}
