//! Queues that this worker consumes, by what it knows, and that show no consumer.
//!
//! RabbitMQ 3.10 tells nobody that the queue he consumes was deleted, when it is there again by the time it looks.
//! His consumer is gone then, and nobody consumes the new queue. But a quorum queue that is slow to answer its
//! node is said to have no consumer too, so only what is seen many times in a row counts.

use std::collections::BTreeMap;

/// Seen so often in a row, it is true.
const LOOKS: u32 = 10;

/// How often in a row each queue has shown no consumer.
#[derive(Debug, Default)]
pub(super) struct Silence(BTreeMap<String, u32>);

impl Silence {
    /// Notes how many consumers a queue shows, none when there is no such queue, of which the broker tells. True
    /// once ours is gone.
    pub(super) fn is_gone(&mut self, queue: &str, consumers: Option<u32>) -> bool {
        if consumers != Some(0) {
            self.0.remove(queue);
            return false;
        }
        let looks = self.0.entry(queue.to_owned()).or_default();
        *looks += 1;
        let is_gone = *looks >= LOOKS;
        if is_gone {
            self.0.remove(queue);
        }
        is_gone
    }

    /// Whether a queue showed no consumer when it was looked at last.
    pub(super) fn is_suspect(&self, queue: &str) -> bool {
        self.0.contains_key(queue)
    }

    /// Forgets all queues but these.
    pub(super) fn retain(&mut self, is_held: impl Fn(&str) -> bool) {
        self.0.retain(|queue, _| is_held(queue));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_gone_once_its_queue_has_shown_none_many_times_in_a_row() {
        let mut silence = Silence::default();
        for _ in 0..3 {
            for _ in 1..LOOKS {
                assert!(!silence.is_gone("q", Some(0)));
                assert!(silence.is_suspect("q"));
            }
            assert!(!silence.is_gone("q", Some(1)));
            assert!(!silence.is_suspect("q"));
        }
        for _ in 1..LOOKS {
            assert!(!silence.is_gone("q", Some(0)));
        }
        assert!(silence.is_gone("q", Some(0)));
        assert!(!silence.is_gone("q", Some(0)), "it is counted anew");
    }

    #[test]
    fn a_queue_that_is_not_there_or_not_held_counts_for_nothing() {
        let mut silence = Silence::default();
        assert!(!silence.is_gone("q", Some(0)));
        assert!(!silence.is_gone("q", None));
        assert!(!silence.is_suspect("q"));
        assert!(!silence.is_gone("q", Some(0)));
        silence.retain(|_| false);
        assert!(!silence.is_suspect("q"));
    }
}
