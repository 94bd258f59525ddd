//! The queue of groups and sessions to be read again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{MAX_REFRESHES, StateStore};
use crate::store::known_groups::KnownKey;

impl StateStore {
    /// Requests a read of a group, or of all groups of a session, now.
    pub(in crate::engines) fn request_refresh(&self, key: KnownKey) {
        self.request_refresh_at(key, self.now());
    }

    /// Requests a read of a group, or of all groups of a session, no sooner than `due`.
    pub(in crate::engines) fn request_refresh_at(&self, key: KnownKey, due: i64) {
        let mut open = self.refresh_queue.open.lock();
        let is_room = open.len() < MAX_REFRESHES || key.group.is_none() || open.contains_key(&key);
        if is_room {
            let queued = open.entry(key).or_insert(due);
            *queued = due.min(*queued);
        }
        drop(open);
        self.refresh_queue.news.notify_one();
    }

    /// Takes the entries that are due; waits for one.
    ///
    /// # Cancellation
    /// Dropping the future loses no entry.
    pub(in crate::engines) async fn next_refreshes(&self) -> BTreeSet<KnownKey> {
        loop {
            let (due, next) = self.due_refreshes();
            if !due.is_empty() {
                return due;
            }
            let news = self.refresh_queue.news.notified();
            match next {
                None => news.await,
                // The loop checks again, whether it was notified or not.
                Some(wait) => drop(tokio::time::timeout(wait, news).await),
            }
        }
    }

    /// Takes the entries that are due; also returns the time until the next one.
    fn due_refreshes(&self) -> (BTreeSet<KnownKey>, Option<Duration>) {
        let now = self.now();
        let mut open = self.refresh_queue.open.lock();
        let due = open.iter().filter(|(_, due)| **due <= now);
        let due: BTreeSet<_> = due.map(|(key, _)| key.clone()).collect();
        open.retain(|key, _| !due.contains(key));
        let next = open.values().min().map(|next| next - now);
        drop(open);
        let next = next.map(|wait| Duration::from_millis(wait.unsigned_abs()));
        (due, next)
    }
}
