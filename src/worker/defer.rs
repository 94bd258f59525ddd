//! Deferring a command to a delay queue, and the end of a deferral.

use std::time::Duration;

use crate::contract::Timestamp;
use crate::executor::Deferral;
use crate::observability::events;
use crate::store::lanes::{Deferred, LaneKey};

use super::messages::{self, DeferralState};
use super::{Job, NotAcked, Worker, spans};

impl Worker {
    /// Defers a command: published and confirmed first, then recorded, then acknowledged.
    pub(super) async fn defer(
        &self,
        job: Box<Job>,
        place: Option<(&LaneKey, u64)>,
        tier: Duration,
        deferral: Option<&Deferral>,
    ) -> Result<(), NotAcked> {
        if job.shard.is_lost() {
            return Err(NotAcked);
        }
        let ticket = place.map(|(_, ticket)| ticket);
        let deferral_state = job.deferral_state.further(deferral, ticket, self.now());
        let mut deferred = messages::deferred(
            &job.accepted,
            &job.delivery.message,
            &deferral_state,
            &self.names,
            tier,
        );
        let _sending = spans::send(job.span.trace(), std::slice::from_mut(&mut deferred));
        self.publisher.defer(deferred).await?;
        let now = self.now();
        let deferred = Deferred {
            key: job.accepted.key(),
            command_type: job.accepted.command.command_type().as_str().to_owned(),
            lane: place.map(|(key, _)| key.lane.clone()),
            ticket: ticket.unwrap_or_default(),
            tier,
            due: Timestamp(now.0.checked_add(tier).unwrap_or(now.0)),
            lost_at: None,
        };
        let lanes = &job.shard.lanes;
        self.until_stored(&job.shard, || lanes.record_deferred(&deferred))
            .await?;
        if let Some(deferral) = deferral {
            events::command_deferred(
                job.accepted.id.as_str(),
                job.accepted.command.command_type().as_str(),
                deferral.cause.code.as_str(),
                &deferral.cause.message,
                tier,
            );
        }
        job.delivery.ack();
        Ok(())
    }

    /// Lets the next deferred command of the lane proceed, if this one was deferred.
    pub(super) async fn end_deferral(
        &self,
        job: &Job,
        lane: Option<&LaneKey>,
    ) -> Result<(), NotAcked> {
        if job.shard.is_lost() {
            return Ok(());
        }
        let now = self.now();
        let command = job.accepted.key();
        let place = lane.zip(job.deferral_state.ticket);
        let has_rested = job.deferral_state.since.is_some();
        let lanes = &job.shard.lanes;
        self.until_stored(&job.shard, || {
            lanes.record_done(&command, place, has_rested, &self.tiers, now)
        })
        .await
    }

    /// The shortest tier that is long enough; longer with each deferral without progress.
    pub(super) fn tier(&self, deferral: &Deferral, deferral_state: &DeferralState) -> Duration {
        // Waiting for a session grows less, so that its return is noticed soon.
        let most = if deferral.counts { usize::MAX } else { 2 };
        let step = usize::try_from(deferral_state.deferrals)
            .unwrap_or(usize::MAX)
            .min(most);
        let wish = deferral.after.unwrap_or_default();
        let longest = self.tiers.last().copied().unwrap_or_default();
        let from = step.min(self.tiers.len().saturating_sub(1));
        let fits = |tier: &Duration| *tier >= wish;
        self.tiers
            .iter()
            .skip(from)
            .copied()
            .find(fits)
            .unwrap_or(longest)
    }
}
