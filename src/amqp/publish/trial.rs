//! Trials: messages that were in flight when the broker closed a connection over one of them are offered
//! again, each alone, over a separate connection. So only the message that caused it is blamed, and the
//! original connection serves new messages meanwhile.
//!
//! A message is given up when the broker closes the connection over it alone after it had been in flight at
//! an earlier close; and only if that connection was made, and the topology checked, after the earlier one.
//! A lost connection, a broker that shuts down (320) and one that does not answer prove nothing.
//!
//! A missing permission (403) concerns every message to an exchange, or (topic permissions) some routing
//! keys only. It is the message's own fault only if the exchange took other messages meanwhile; else it
//! ends the connection, as everywhere.
//!
//! The callers, `fate` and `rpc`, decide what happens to a message that is given up.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lapin::{Channel, Confirmation, Connection};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::lifecycle::Lifecycle;

use crate::amqp::channel::{self, publish};
use crate::amqp::error::why_closed;
use crate::amqp::link::supervisor::{self, ConnectionTask};
use crate::amqp::message::Outgoing;
use crate::amqp::publish::direct::Unreachable;
use crate::amqp::publish::nacks::refusal;
use crate::amqp::{Error, Refusal, Target, Topology};

/// The connection stays open for this long after the last message: the next one of its batch follows at
/// once.
const LINGER: Duration = Duration::from_secs(2);

/// AMQP's reply code for a missing permission.
const ACCESS_REFUSED: u16 = 403;

/// AMQP's reply code for an internal error, as over a direct reply that cannot be delivered.
const INTERNAL_ERROR: u16 = 541;

/// The broker's answer to a message that was offered alone.
#[derive(Debug)]
pub(in crate::amqp) enum Verdict {
    /// Confirmed.
    Confirmed,
    /// No queue took it.
    Returned,
    /// Not taken now.
    Nacked,
    /// The broker closes the connection over it, and would again.
    GivenUp(Refusal),
}

/// Hands messages over; clones are cheap. The trials end with the last handle.
#[derive(Debug, Clone)]
pub(in crate::amqp) struct Trials {
    queue: mpsc::UnboundedSender<Suspect>,
    taken: Taken,
}

/// A message to be offered alone.
#[derive(Debug)]
struct Suspect {
    message: Outgoing,
    died: Option<Died>,
    answer: oneshot::Sender<Verdict>,
}

/// When the broker closed connections on which a message was in flight.
#[derive(Debug, Clone, Copy)]
struct Died {
    first: Instant,
    last: Instant,
}

impl Trials {
    /// Makes the handle for suspects and the task that offers them.
    pub(in crate::amqp) fn new(
        purpose: &'static str,
        target: Target,
        topology: Topology,
        lifecycle: Lifecycle,
        unreachable: Unreachable,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        // Bounded by the number of callers, each of which waits for its message.
        let (queue, suspects) = mpsc::unbounded_channel();
        let taken = Taken::default();
        let mut trial = Trial {
            purpose,
            topology,
            confirm_timeout: target.settings().confirm_timeout,
            suspects,
            waiting: VecDeque::new(),
            taken: taken.clone(),
            unreachable,
        };
        let task = async move {
            while let Some(suspect) = trial.suspects.recv().await {
                trial.waiting.push_back(suspect);
                supervisor::keep(&target, &lifecycle, &mut trial).await?;
                if !trial.waiting.is_empty() {
                    // A stop without a broker.
                    break;
                }
            }
            Ok(())
        };
        (Self { queue, taken }, task)
    }

    /// Offers a message alone; `died` is when the connection on which it was in flight was closed. None
    /// when the process ends first.
    pub(in crate::amqp) async fn offer(
        &self,
        message: Outgoing,
        died: Option<Instant>,
    ) -> Option<Verdict> {
        let (answer, verdict) = oneshot::channel();
        let died = died.map(|at| Died {
            first: at,
            last: at,
        });
        let suspect = Suspect {
            message,
            died,
            answer,
        };
        self.queue.send(suspect).ok()?;
        verdict.await.ok()
    }

    /// Records that messages were confirmed.
    pub(in crate::amqp) fn note<'a>(&self, messages: impl Iterator<Item = &'a Outgoing>) {
        self.taken.note(messages.map(|it| it.exchange.as_str()));
    }
}

/// When each exchange last took a message.
#[derive(Debug, Clone, Default)]
struct Taken {
    // A std mutex: held briefly and never across an await.
    last: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Taken {
    fn note<'a>(&self, exchanges: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        let mut last = self.last.lock();
        for exchange in exchanges {
            match last.get_mut(exchange) {
                Some(at) => *at = now,
                None => drop(last.insert(exchange.to_owned(), now)),
            }
        }
    }

    fn since(&self, exchange: &str, then: Instant) -> bool {
        let last = self.last.lock();
        last.get(exchange).is_some_and(|at| *at > then)
    }
}

struct Trial {
    purpose: &'static str,
    topology: Topology,
    confirm_timeout: Duration,
    suspects: mpsc::UnboundedReceiver<Suspect>,
    /// The first of them is in flight.
    waiting: VecDeque<Suspect>,
    taken: Taken,
    unreachable: Unreachable,
}

impl ConnectionTask for Trial {
    fn purpose(&self) -> &'static str {
        self.purpose
    }

    fn has_worked(&self) -> bool {
        true
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        let opened = Instant::now();
        self.topology.ensure(connection).await?;
        // After the topology check, which closes channels: those errors must not be reported here.
        let mut notices = connection.events_listener();
        let channel = channel::confirming(connection).await?;
        let mut refused_at = None;
        while let Some(suspect) = self.next().await {
            match offer(&channel, &suspect.message, self.confirm_timeout).await {
                Ok(verdict) => {
                    let nacked = matches!(verdict, Verdict::Nacked);
                    // The caller may have stopped waiting.
                    suspect.answer.send(verdict).ok();
                    if nacked {
                        refusal(&mut refused_at)?;
                    } else {
                        self.taken
                            .note([suspect.message.exchange.as_str()].into_iter());
                    }
                }
                Err(error) => {
                    let error = why_closed(error, &mut notices).await;
                    return Err(self.died(suspect, error, opened));
                }
            }
        }
        Ok(())
    }
}

impl Trial {
    /// The next suspect that has a waiter; none when there has been none for a while.
    async fn next(&mut self) -> Option<Suspect> {
        loop {
            // Those that came meanwhile precede one that was put at the end for them.
            while let Ok(suspect) = self.suspects.try_recv() {
                self.waiting.push_back(suspect);
            }
            let suspect = match self.waiting.pop_front() {
                Some(suspect) => suspect,
                None => tokio::time::timeout(LINGER, self.suspects.recv())
                    .await
                    .ok()??,
            };
            if suspect.answer.is_closed() {
                continue;
            }
            if self.unreachable.contains(&suspect.message) {
                suspect.answer.send(Verdict::Returned).ok();
                continue;
            }
            return Some(suspect);
        }
    }

    /// What the end of the connection proves about the message that was offered.
    fn died(&mut self, mut suspect: Suspect, error: Error, opened: Instant) -> Error {
        let Some(refusal) = error.blame() else {
            self.waiting.push_front(suspect);
            return error.while_serving();
        };
        let others = |since| self.taken.since(&suspect.message.exchange, since);
        match judge(suspect.died, opened, refusal.code, others) {
            Proof::Blamed => {
                if refusal.code == INTERNAL_ERROR {
                    self.unreachable.note(&suspect.message);
                }
                suspect.answer.send(Verdict::GivenUp(refusal.clone())).ok();
            }
            Proof::Suspected => {
                let now = Instant::now();
                let first = suspect.died.map_or(now, |it| it.first);
                suspect.died = Some(Died { first, last: now });
                self.waiting.push_front(suspect);
            }
            Proof::Forbidden => {
                self.waiting.push_back(suspect);
                return Error::Refused(refusal);
            }
        }
        Error::Provoked(refusal)
    }
}

/// The conclusion about a message that was in flight alone when the broker closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The message is to blame.
    Blamed,
    /// Nothing is proved yet.
    Suspected,
    /// Every message to this exchange is refused.
    Forbidden,
}

/// `opened` is when the connection was made; `others` returns whether the message's exchange has taken
/// another message since a time.
fn judge(
    died: Option<Died>,
    opened: Instant,
    code: u16,
    others: impl FnOnce(Instant) -> bool,
) -> Proof {
    match died {
        Some(died) if died.last < opened => {
            if code == ACCESS_REFUSED && !others(died.first) {
                Proof::Forbidden
            } else {
                Proof::Blamed
            }
        }
        _ => Proof::Suspected,
    }
}

/// Offers a message and waits for the broker's answer.
async fn offer(channel: &Channel, message: &Outgoing, within: Duration) -> Result<Verdict, Error> {
    let confirmed = async { publish(channel, message).await?.await };
    match tokio::time::timeout(within, confirmed).await {
        Ok(confirmation) => Ok(match confirmation? {
            Confirmation::Ack(None) => Verdict::Confirmed,
            Confirmation::Ack(Some(_)) => Verdict::Returned,
            Confirmation::Nack(_) | Confirmation::NotRequested => Verdict::Nacked,
        }),
        Err(_) => Err(Error::TimedOut(within, "confirming a message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_ERROR: u16 = 501;

    fn died(at: Instant) -> Died {
        Died {
            first: at,
            last: at,
        }
    }

    #[test]
    fn a_message_is_blamed_for_the_second_link_if_that_was_made_after_the_first_had_ended() {
        let first = Instant::now();
        let later = first + Duration::from_secs(1);
        for code in [404, 406, FRAME_ERROR, INTERNAL_ERROR] {
            assert_eq!(
                judge(Some(died(first)), later, code, |_| false),
                Proof::Blamed
            );
            // A connection that was open before: the topology may have changed since.
            assert_eq!(
                judge(Some(died(later)), first, code, |_| false),
                Proof::Suspected
            );
            assert_eq!(judge(None, later, code, |_| false), Proof::Suspected);
        }
    }

    #[test]
    fn a_missing_permission_is_a_message_s_fault_only_if_its_exchange_takes_others() {
        let first = Instant::now();
        let later = first + Duration::from_secs(1);
        let judged = |others| judge(Some(died(first)), later, ACCESS_REFUSED, |_| others);
        assert_eq!(judged(false), Proof::Forbidden);
        assert_eq!(judged(true), Proof::Blamed);
    }

    #[test]
    fn an_exchange_has_taken_another_message_only_after_that_time() {
        let taken = Taken::default();
        let before = Instant::now();
        taken.note(["events"].into_iter());
        assert!(taken.since("events", before - Duration::from_secs(1)));
        assert!(!taken.since("events", Instant::now() + Duration::from_secs(1)));
        assert!(!taken.since("replies", before - Duration::from_secs(1)));
    }
}
