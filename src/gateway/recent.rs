//! The last commands that went through this gateway, to tell what became of them: in memory, at
//! most so many. What it has forgotten, and what went through another gateway, is in the ledger if
//! it changed something.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::amqp::Progress;
use crate::store::ledger::{Fingerprint, Key};

/// Commands by session and id. The lock is held for a look-up and no longer.
#[derive(Debug)]
pub(super) struct Recent {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    commands: HashMap<Key, Command>,
    /// Oldest first.
    order: VecDeque<Key>,
}

#[derive(Debug)]
struct Command {
    fingerprint: Fingerprint,
    progress: watch::Receiver<Progress>,
}

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    /// Remembers a command. Where it is sent again, the last one counts; another command under the
    /// same id does not, since that one is refused.
    pub(super) fn keep(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        progress: watch::Receiver<Progress>,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.commands.get_mut(key) {
            if known.fingerprint == fingerprint {
                known.progress = progress;
            }
            return;
        }
        let command = Command {
            fingerprint,
            progress,
        };
        kept.commands.insert(key.clone(), command);
        kept.order.push_back(key.clone());
        if kept.order.len() > self.most
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.commands.remove(&oldest);
        }
    }

    /// How far a command has come, if it is remembered, and if that will be known.
    pub(super) fn find(&self, key: &Key) -> Option<Progress> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = &kept.commands.get(key)?.progress;
        let now = progress.borrow().clone();
        // Its reply was lost with a connection, and nobody waited for it.
        let lost = !matches!(now, Progress::Replied(_)) && progress.has_changed().is_err();
        (!lost).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key {
            session: "default".parse().unwrap(),
            command_id: id.parse().unwrap(),
        }
    }

    #[test]
    fn the_oldest_is_forgotten_and_a_repetition_takes_no_second_place() {
        let recent = Recent::new(2);
        let (_told, progress) = watch::channel(Progress::Sent);
        for id in ["a", "b", "a", "a"] {
            recent.keep(&key(id), [1; 32], progress.clone());
        }
        assert!(recent.find(&key("a")).is_some() && recent.find(&key("b")).is_some());
        recent.keep(&key("c"), [1; 32], progress);
        assert!(recent.find(&key("a")).is_none());
        assert!(recent.find(&key("b")).is_some() && recent.find(&key("c")).is_some());
    }

    #[test]
    fn another_command_under_the_same_id_does_not_take_its_place() {
        let recent = Recent::new(2);
        let (_told, first) = watch::channel(Progress::Queued);
        let (_told, second) = watch::channel(Progress::Refused);
        recent.keep(&key("a"), [1; 32], first);
        recent.keep(&key("a"), [2; 32], second.clone());
        assert_eq!(recent.find(&key("a")), Some(Progress::Queued));
        recent.keep(&key("a"), [1; 32], second);
        assert_eq!(recent.find(&key("a")), Some(Progress::Refused));
    }

    #[test]
    fn a_command_whose_reply_was_lost_is_not_pending_for_ever() {
        let recent = Recent::new(2);
        let (told, progress) = watch::channel(Progress::Queued);
        recent.keep(&key("a"), [1; 32], progress);
        assert_eq!(recent.find(&key("a")), Some(Progress::Queued));
        drop(told);
        assert_eq!(recent.find(&key("a")), None);
    }
}
