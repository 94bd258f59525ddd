//! Replies that their queue refuses: for example a full queue with `x-overflow=reject-publish`, or a quorum
//! queue without a leader.
//!
//! The producer chooses that queue, so it must not delay other replies: such a reply is offered again for a
//! while and then given up; it is on the replies exchange as well. From then on, one refusal is enough,
//! until the queue takes a reply again or none is due for a while.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::amqp::Names;
use crate::amqp::message::Outgoing;
use crate::amqp::publish::batch::{Batch, unconfirmed};

/// How long a reply is offered to a queue that refuses it: a quorum queue elects another leader sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// A queue without replies for this long is forgotten.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// The maximum number of queues that are remembered.
const QUEUES_MAX: usize = 256;

/// Whether only replies to queues of producers are left of a batch.
pub(in crate::amqp) fn is_replies(batch: &Batch, names: &Names) -> bool {
    unconfirmed(batch.entries()).all(|entry| is_reply(&entry.message, names))
}

fn is_reply(message: &Outgoing, names: &Names) -> bool {
    message.exchange.is_empty() && !names.is_own(&message.routing_key)
}

/// Queues of producers that have refused replies for long.
#[derive(Debug, Clone, Default)]
pub(in crate::amqp) struct Refusing {
    // A std mutex: held briefly and never across an await.
    queues: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Refusing {
    /// Whether a reply that has been refused for this long is given up; its queue is remembered then.
    pub(in crate::amqp) fn gives_up(&self, reply: &Outgoing, refused_for: Duration) -> bool {
        let mut queues = self.queues.lock();
        queues.retain(|(_, last)| last.elapsed() < REMEMBERED_FOR);
        let known = queues
            .iter_mut()
            .find(|(queue, _)| *queue == reply.routing_key);
        if let Some((_, last)) = known {
            *last = Instant::now();
            return true;
        }
        if refused_for < PATIENCE {
            return false;
        }
        if queues.len() < QUEUES_MAX {
            queues.push((reply.routing_key.clone(), Instant::now()));
        }
        true
    }

    /// Forgets the queues that took a reply of this batch.
    pub(in crate::amqp) fn takes(&self, batch: &Batch) {
        let mut queues = self.queues.lock();
        if queues.is_empty() {
            return;
        }
        for entry in batch.entries().iter() {
            let reply = &entry.message;
            queues.retain(|(queue, _)| !reply.exchange.is_empty() || *queue != reply.routing_key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn to(queue: &str) -> Outgoing {
        Outgoing {
            routing_key: queue.to_owned(),
            ..Outgoing::default()
        }
    }

    fn batch(messages: Vec<Outgoing>) -> Batch {
        Batch::new(messages, oneshot::channel().0)
    }

    #[test]
    fn replies_are_what_goes_directly_to_a_queue_that_is_not_ours() {
        let names = Names::new("groupmq");
        let event = Outgoing {
            exchange: names.events(),
            ..to("shop")
        };
        assert!(is_replies(&batch(vec![to("shop"), to("other")]), &names));
        assert!(!is_replies(&batch(vec![to("shop"), event.clone()]), &names));
        assert!(!is_replies(
            &batch(vec![to(&names.dead_commands())]),
            &names
        ));
        let taken = batch(vec![event, to("shop")]);
        taken.entries().first().unwrap().confirm();
        assert!(is_replies(&taken, &names), "the broker has the event");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_has_refused_for_long_is_given_up_at_once_until_it_takes_a_reply() {
        let refusing = Refusing::default();
        assert!(!refusing.gives_up(&to("full"), PATIENCE / 2));
        assert!(refusing.gives_up(&to("full"), PATIENCE));
        for _ in 0..3 {
            tokio::time::advance(REMEMBERED_FOR / 2).await;
            assert!(refusing.gives_up(&to("full"), Duration::ZERO));
            assert!(!refusing.gives_up(&to("other"), Duration::ZERO));
        }
        refusing.takes(&batch(vec![to("full")]));
        assert!(!refusing.gives_up(&to("full"), Duration::ZERO));
        assert!(refusing.gives_up(&to("full"), PATIENCE));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert!(!refusing.gives_up(&to("full"), Duration::ZERO));
    }
}
