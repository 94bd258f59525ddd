//! Commands that this gateway has published and that have no reply yet. `/api/commands/{id}` reports them as
//! pending, since the ledger does not have a command before a worker begins it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::amqp::Progress;
use crate::store::ledger::Key;

/// Commands without a reply, up to a maximum number. The lock is never held across an await.
#[derive(Debug)]
pub(super) struct Unanswered {
    max: usize,
    commands: Mutex<HashMap<Key, watch::Receiver<Progress>>>,
}

impl Unanswered {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            commands: Mutex::default(),
        }
    }

    /// Adds a command, unless there are too many. The returned task removes it when its reply arrives, the broker
    /// refuses it, or the connection for the reply is lost.
    pub(super) fn add(
        self: &Arc<Self>,
        key: Key,
        mut progress: watch::Receiver<Progress>,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if commands.len() >= self.max {
            return None;
        }
        commands.insert(key.clone(), progress.clone());
        let unanswered = Arc::clone(self);
        Some(async move {
            progress.wait_for(|now| !is_pending(now)).await.ok();
            let commands = &unanswered.commands;
            let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
            // A repetition of the command may have taken its place.
            if commands
                .get(&key)
                .is_some_and(|it| it.same_channel(&progress))
            {
                commands.remove(&key);
            }
        })
    }

    /// Whether the command has no reply yet.
    pub(super) fn contains(&self, key: &Key) -> bool {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = commands.get(key);
        progress.is_some_and(|it| is_pending(&it.borrow()))
    }
}

fn is_pending(progress: &Progress) -> bool {
    matches!(progress, Progress::Sent | Progress::Queued)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::Incoming;

    fn key(id: &str) -> Key {
        Key {
            session: "default".parse().unwrap(),
            command_id: id.parse().unwrap(),
        }
    }

    fn unanswered(max: usize) -> Arc<Unanswered> {
        Arc::new(Unanswered::new(max))
    }

    #[tokio::test]
    async fn a_command_is_unanswered_until_its_reply_arrives() {
        let unanswered = unanswered(2);
        let (sender, progress) = watch::channel(Progress::Queued);
        let removal = unanswered.add(key("a"), progress).unwrap();
        assert!(unanswered.contains(&key("a")) && !unanswered.contains(&key("b")));
        sender.send_replace(Progress::Replied(Arc::new(Incoming::default())));
        // Even before the task runs, and nothing is left after it.
        assert!(!unanswered.contains(&key("a")));
        removal.await;
        assert!(unanswered.commands.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_command_whose_reply_was_lost_is_not_unanswered_for_ever() {
        let unanswered = unanswered(2);
        let (sender, progress) = watch::channel(Progress::Queued);
        let removal = unanswered.add(key("a"), progress).unwrap();
        drop(sender);
        removal.await;
        assert!(!unanswered.contains(&key("a")));
    }

    #[tokio::test]
    async fn a_repetition_stays_when_the_first_is_answered() {
        let unanswered = unanswered(2);
        let (first, progress) = watch::channel(Progress::Sent);
        let removal = unanswered.add(key("a"), progress).unwrap();
        let (_second, progress) = watch::channel(Progress::Sent);
        let _later = unanswered.add(key("a"), progress).unwrap();
        first.send_replace(Progress::Refused);
        removal.await;
        assert!(unanswered.contains(&key("a")));
    }

    #[test]
    fn no_more_commands_than_the_maximum_are_added() {
        let unanswered = unanswered(1);
        let (_sender, progress) = watch::channel(Progress::Sent);
        assert!(unanswered.add(key("a"), progress.clone()).is_some());
        assert!(unanswered.add(key("b"), progress).is_none());
        assert!(!unanswered.contains(&key("b")));
    }
}
