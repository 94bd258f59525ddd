//! The last commands that went through this gateway, to tell what became of them: in memory, at
//! most so many, and at most so many bytes of replies. What it has forgotten, and what went through
//! another gateway, is in the ledger if it changed something.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::amqp::Progress;
use crate::store::ledger::{Fingerprint, Key};

/// What the replies that are remembered may take up, in bytes; config.default.toml and docs/gateway.md name it.
const ROOM: usize = 64 << 20;

/// Commands by session and id. The lock is held for a look-up, now and then for a count, and no longer.
#[derive(Debug)]
pub(super) struct Recent {
    most: usize,
    /// In bytes.
    room: usize,
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

impl Command {
    /// What its reply takes up, once there is one.
    fn bytes(&self) -> usize {
        match &*self.progress.borrow() {
            Progress::Replied(reply) => reply.body.len(),
            _ => 0,
        }
    }
}

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            room: ROOM,
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

    /// Stays within its room while answers arrive, of which so many bytes have come so far. Counts anew
    /// after every eighth of the room, so it may be exceeded by that much.
    pub(super) async fn stay_within_room(&self, mut answered: watch::Receiver<u64>) {
        let step = self.room as u64 / 8;
        let mut counted = 0;
        loop {
            let enough = answered.wait_for(|bytes| bytes - counted >= step).await;
            match enough.map(|bytes| *bytes) {
                Ok(bytes) => counted = bytes,
                // No more answers will come.
                Err(_) => return,
            }
            self.make_room();
        }
    }

    /// Forgets the oldest commands whose replies, with those of all later ones, take up too much.
    fn make_room(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { commands, order } = &mut *kept;
        let mut bytes = 0;
        let fit = order.iter().rev().take_while(|key| {
            bytes += commands.get(key).map_or(0, Command::bytes);
            bytes <= self.room
        });
        let surplus = order.len() - fit.count();
        for key in order.drain(..surplus) {
            commands.remove(&key);
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

    fn reply(bytes: usize) -> Progress {
        Progress::Replied(Arc::new(Incoming {
            body: vec![b' '; bytes],
            ..Incoming::default()
        }))
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_when_the_replies_take_up_too_much() {
        let recent = Recent {
            room: 80,
            ..Recent::new(10)
        };
        let (answers, answered) = watch::channel(0);
        let ids = ["a", "b", "c", "d"];
        let told = ids.map(|id| {
            let (told, progress) = watch::channel(Progress::Sent);
            recent.keep(&key(id), [1; 32], progress);
            told
        });
        // The replies arrive when nobody asks for anything any more.
        for told in &told[..3] {
            told.send_replace(reply(30));
            answers.send_modify(|bytes| *bytes += 30);
        }
        drop(answers);
        recent.stay_within_room(answered).await;
        let known = ids.map(|id| recent.find(&key(id)).is_some());
        assert_eq!(known, [false, true, true, true]);
    }
}
