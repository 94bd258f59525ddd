//! What the ledger does not know of the commands that this gateway has published, for `/api/commands/{id}`: that they
//! are pending before a worker begins them, and the errors that are only in a reply, such as `EXPIRED`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::amqp::Progress;
use crate::contract::{ErrorBody, Reply, Timestamp};
use crate::store::ledger::Key;

/// Published commands, up to a maximum number of each kind. The locks are never held across an await.
#[derive(Debug)]
pub(super) struct Published {
    max: usize,
    unanswered: Mutex<HashMap<Key, watch::Receiver<Progress>>>,
    errors: Mutex<Errors>,
}

/// The errors of replies.
#[derive(Debug, Default)]
struct Errors {
    by_command: HashMap<Key, ReplyError>,
    /// All of these commands, the oldest first; and some whose error is gone.
    order: VecDeque<Key>,
}

/// The error of a reply, and the reply's time.
pub(super) type ReplyError = (ErrorBody, Timestamp);

impl Published {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            unanswered: Mutex::default(),
            errors: Mutex::default(),
        }
    }

    /// Adds a command, unless there are too many. The returned task removes it when its reply arrives, the broker
    /// refuses it, or the connection for the reply is lost.
    pub(super) fn add(
        self: &Arc<Self>,
        key: Key,
        mut progress: watch::Receiver<Progress>,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let mut unanswered = self.unanswered.lock();
        if unanswered.len() >= self.max {
            return None;
        }
        unanswered.insert(key.clone(), progress.clone());
        let published = Arc::clone(self);
        Some(async move {
            let settled = progress.wait_for(|now| !is_pending(now)).await;
            let error = settled.ok().and_then(|settled| error_of(&settled));
            published.note_error(&key, error);
            let mut unanswered = published.unanswered.lock();
            // A repetition of the command may have taken its place.
            if unanswered
                .get(&key)
                .is_some_and(|it| it.same_channel(&progress))
            {
                unanswered.remove(&key);
            }
        })
    }

    /// Keeps the error of the latest reply, and none of an earlier one.
    fn note_error(&self, key: &Key, error: Option<ReplyError>) {
        let mut errors = self.errors.lock();
        let Some(error) = error else {
            errors.by_command.remove(key);
            return;
        };
        if errors.by_command.insert(key.clone(), error).is_none() {
            errors.order.push_back(key.clone());
        }
        if errors.order.len() > self.max
            && let Some(oldest) = errors.order.pop_front()
        {
            errors.by_command.remove(&oldest);
        }
    }

    /// The error that the latest reply to a command had.
    pub(super) fn error(&self, key: &Key) -> Option<ReplyError> {
        // Its reply may have arrived just now.
        let latest = self.unanswered.lock().get(key).cloned();
        if let Some(error) = latest.and_then(|it| error_of(&it.borrow())) {
            return Some(error);
        }
        self.errors.lock().by_command.get(key).cloned()
    }

    /// Whether the command has no reply yet.
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        let unanswered = self.unanswered.lock();
        let progress = unanswered.get(key);
        progress.is_some_and(|it| is_pending(&it.borrow()))
    }
}

fn error_of(progress: &Progress) -> Option<ReplyError> {
    let Progress::Replied(message) = progress else {
        return None;
    };
    let reply: Reply = serde_json::from_slice(&message.body).ok()?;
    Some((reply.error?, reply.timestamp))
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

    fn published(max: usize) -> Arc<Published> {
        Arc::new(Published::new(max))
    }

    #[tokio::test]
    async fn a_command_is_unanswered_until_its_reply_arrives() {
        let published = published(2);
        let (sender, progress) = watch::channel(Progress::Queued);
        let removal = published.add(key("a"), progress).unwrap();
        assert!(published.is_pending(&key("a")) && !published.is_pending(&key("b")));
        sender.send_replace(Progress::Replied(Arc::new(Incoming::default())));
        // Even before the task runs, and nothing is left after it.
        assert!(!published.is_pending(&key("a")));
        removal.await;
        assert!(published.unanswered.lock().is_empty());
    }

    #[tokio::test]
    async fn a_command_whose_reply_was_lost_is_not_unanswered_for_ever() {
        let published = published(2);
        let (sender, progress) = watch::channel(Progress::Queued);
        let removal = published.add(key("a"), progress).unwrap();
        drop(sender);
        removal.await;
        assert!(!published.is_pending(&key("a")));
    }

    #[tokio::test]
    async fn a_repetition_stays_when_the_first_is_answered() {
        let published = published(2);
        let (first, progress) = watch::channel(Progress::Sent);
        let removal = published.add(key("a"), progress).unwrap();
        let (_second, progress) = watch::channel(Progress::Sent);
        let _later = published.add(key("a"), progress).unwrap();
        first.send_replace(Progress::Refused);
        removal.await;
        assert!(published.is_pending(&key("a")));
    }

    #[test]
    fn no_more_commands_than_the_maximum_are_added() {
        let published = published(1);
        let (_sender, progress) = watch::channel(Progress::Sent);
        assert!(published.add(key("a"), progress.clone()).is_some());
        assert!(published.add(key("b"), progress).is_none());
        assert!(!published.is_pending(&key("b")));
    }

    #[tokio::test]
    async fn the_error_of_the_latest_reply_is_kept_for_as_many_commands_as_the_maximum() {
        let published = published(1);
        let reply = |error: &str| {
            let body = format!(
                r#"{{"id": "b9a0b0fe-3b5c-5b0a-8d5b-0d6c1a2b3c4d", "commandId": "a", "type": "LeaveGroup",
                    "session": "default", "engine": "SANDBOX", {error}, "replayed": false,
                    "timestamp": "2026-11-28T10:00:00Z"}}"#
            );
            let message = Incoming {
                body: body.into_bytes(),
                ..Incoming::default()
            };
            Progress::Replied(Arc::new(message))
        };
        let expired = r#""status": "error", "error": {"code": "EXPIRED", "message": "too late", "retryable": false}"#;
        let settle = async |id: &str, text: &str| {
            let (_sender, progress) = watch::channel(reply(text));
            published.add(key(id), progress).unwrap().await;
        };
        settle("a", expired).await;
        assert_eq!(published.error(&key("a")).unwrap().0.message, "too late");
        settle("b", expired).await;
        assert!(published.error(&key("a")).is_none(), "the oldest goes");
        settle("b", r#""status": "ok", "result": null"#).await;
        assert!(published.error(&key("b")).is_none());
    }
}
