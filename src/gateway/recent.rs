//! Recent commands of this gateway and their replies, in memory, bounded by number and by bytes. Older commands
//! and those of other gateways are in the ledger, if they change something.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::amqp::Progress;
use crate::store::ledger::{Fingerprint, Key};

/// The maximum size of all replies in bytes; documented in config.default.toml and docs/gateway.md.
const MAX_BYTES: usize = 64 << 20;

/// Commands by session and id. The lock is held for a look-up or an eviction, never across an await.
#[derive(Debug)]
pub(super) struct Recent {
    max_entries: usize,
    max_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    commands: HashMap<Key, Entry>,
    /// Oldest first.
    order: VecDeque<Key>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    progress: watch::Receiver<Progress>,
}

impl Entry {
    /// The size of the reply, if there is one.
    fn bytes(&self) -> usize {
        match &*self.progress.borrow() {
            Progress::Replied(reply) => reply.body.len(),
            _ => 0,
        }
    }
}

impl Recent {
    pub(super) fn new(max_entries: usize) -> Self {
        Self {
            max_entries,
            max_bytes: MAX_BYTES,
            entries: Mutex::default(),
        }
    }

    /// Adds a command. A repetition replaces the entry; another command with the same id does not, since it is
    /// refused.
    pub(super) fn insert(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        progress: watch::Receiver<Progress>,
    ) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entries.commands.get_mut(key) {
            if known.fingerprint == fingerprint {
                known.progress = progress;
            }
            return;
        }
        let command = Entry {
            fingerprint,
            progress,
        };
        entries.commands.insert(key.clone(), command);
        entries.order.push_back(key.clone());
        if entries.order.len() > self.max_entries
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.commands.remove(&oldest);
        }
    }

    /// Enforces `max_bytes` while replies arrive; `answered` is the total of their bytes so far. It counts again
    /// after each eighth of the limit, so the limit can be exceeded by that much.
    pub(super) async fn enforce_limit(&self, mut answered: watch::Receiver<u64>) {
        let step = self.max_bytes as u64 / 8;
        let mut counted = 0;
        loop {
            let enough = answered.wait_for(|bytes| bytes - counted >= step).await;
            match enough.map(|bytes| *bytes) {
                Ok(bytes) => counted = bytes,
                // No more replies can arrive.
                Err(_) => return,
            }
            self.evict_oldest();
        }
    }

    /// Removes the oldest commands until the replies fit into `max_bytes`.
    fn evict_oldest(&self) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Entries { commands, order } = &mut *entries;
        let mut bytes = 0;
        let fit = order.iter().rev().take_while(|key| {
            bytes += commands.get(key).map_or(0, Entry::bytes);
            bytes <= self.max_bytes
        });
        let surplus = order.len() - fit.count();
        for key in order.drain(..surplus) {
            commands.remove(&key);
        }
    }

    /// The progress of a command; none if it is not remembered or its reply was lost.
    pub(super) fn find(&self, key: &Key) -> Option<Progress> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = &entries.commands.get(key)?.progress;
        let now = progress.borrow().clone();
        // The connection was lost before the reply arrived, and no request waited for it.
        let lost = !matches!(now, Progress::Replied(_)) && progress.has_changed().is_err();
        (!lost).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::amqp::Incoming;

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
            recent.insert(&key(id), [1; 32], progress.clone());
        }
        assert!(recent.find(&key("a")).is_some() && recent.find(&key("b")).is_some());
        recent.insert(&key("c"), [1; 32], progress);
        assert!(recent.find(&key("a")).is_none());
        assert!(recent.find(&key("b")).is_some() && recent.find(&key("c")).is_some());
    }

    #[test]
    fn another_command_under_the_same_id_does_not_take_its_place() {
        let recent = Recent::new(2);
        let (_told, first) = watch::channel(Progress::Queued);
        let (_told, second) = watch::channel(Progress::Refused);
        recent.insert(&key("a"), [1; 32], first);
        recent.insert(&key("a"), [2; 32], second.clone());
        assert_eq!(recent.find(&key("a")), Some(Progress::Queued));
        recent.insert(&key("a"), [1; 32], second);
        assert_eq!(recent.find(&key("a")), Some(Progress::Refused));
    }

    #[test]
    fn a_command_whose_reply_was_lost_is_not_pending_for_ever() {
        let recent = Recent::new(2);
        let (told, progress) = watch::channel(Progress::Queued);
        recent.insert(&key("a"), [1; 32], progress);
        assert_eq!(recent.find(&key("a")), Some(Progress::Queued));
        drop(told);
        assert_eq!(recent.find(&key("a")), None);
    }

    fn reply(bytes: usize) -> Progress {
        Progress::Replied(Arc::new(Incoming {
            body: vec![b' '; bytes],
            ..Incoming::default()
        }))
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_when_the_replies_take_up_too_much() {
        let recent = Recent {
            max_bytes: 80,
            ..Recent::new(10)
        };
        let (answers, answered) = watch::channel(0);
        let ids = ["a", "b", "c", "d"];
        let told = ids.map(|id| {
            let (told, progress) = watch::channel(Progress::Sent);
            recent.insert(&key(id), [1; 32], progress);
            told
        });
        // The replies arrive when nobody asks for anything any more.
        for told in &told[..3] {
            told.send_replace(reply(30));
            answers.send_modify(|bytes| *bytes += 30);
        }
        drop(answers);
        recent.enforce_limit(answered).await;
        let known = ids.map(|id| recent.find(&key(id)).is_some());
        assert_eq!(known, [false, true, true, true]);
    }
}
