//! A request as its caller holds it: its progress, and whether it can still be withdrawn. `rpc` sends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

use crate::amqp::message::Incoming;

/// The progress of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// In flight, as far as is known.
    Sent,
    /// The broker has confirmed it.
    Queued,
    /// The broker does not accept it; there will be no reply.
    Refused,
    /// The reply.
    Replied(Arc<Incoming>),
}

/// A request that was handed over.
#[derive(Debug)]
pub struct PendingCall {
    pub(in crate::amqp) progress: watch::Receiver<Progress>,
    pub(in crate::amqp) ticket: Arc<Ticket>,
}

/// Whether a request has been written; decides between its writer and a caller that withdraws it.
#[derive(Debug, Default)]
pub(in crate::amqp) struct Ticket(AtomicU8);

const UNSENT: u8 = 0;
const WRITTEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    /// Marks it as written (again); false if it was withdrawn.
    pub(in crate::amqp) fn write(&self) -> bool {
        let first = self
            .0
            .compare_exchange(UNSENT, WRITTEN, Ordering::AcqRel, Ordering::Acquire);
        first.is_ok() || first == Err(WRITTEN)
    }

    fn withdraw(&self) -> bool {
        let first = self
            .0
            .compare_exchange(UNSENT, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        first.is_ok() || first == Err(WITHDRAWN)
    }
}

impl PendingCall {
    /// Waits until the broker has confirmed or refused the request, or the reply has arrived; none when the
    /// process ends first.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn queued(&mut self) -> Option<Progress> {
        wait(&mut self.progress, |it| *it != Progress::Sent).await
    }

    /// Waits for the reply or a refusal; none when the process ends first.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn settled(&mut self) -> Option<Progress> {
        let settled = |it: &Progress| matches!(it, Progress::Refused | Progress::Replied(_));
        wait(&mut self.progress, settled).await
    }

    /// Withdraws the request; returns whether it is certain that it was never sent.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.ticket.withdraw()
    }

    /// Whether the broker certainly has it.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        matches!(
            *self.progress.borrow(),
            Progress::Queued | Progress::Replied(_)
        )
    }

    /// A view of the progress that does not count as waiting for the reply.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

async fn wait(
    progress: &mut watch::Receiver<Progress>,
    done: impl FnMut(&Progress) -> bool,
) -> Option<Progress> {
    progress.wait_for(done).await.ok().map(|it| it.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_withdrawn_is_never_written_and_the_other_way_round() {
        let ticket = Ticket::default();
        assert!(ticket.write() && ticket.write());
        assert!(!ticket.withdraw());
        let ticket = Ticket::default();
        assert!(ticket.withdraw() && ticket.withdraw());
        assert!(!ticket.write());
    }
}
