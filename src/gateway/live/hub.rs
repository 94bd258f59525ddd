//! A ring buffer of recent events, bounded by number and by bytes, which each listener reads at its own position.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;
use uuid::Uuid;

use crate::amqp::Heard;
use crate::observability::events;

use super::filter::Filter;

/// The maximum size of all events in bytes; documented in config.default.toml and docs/gateway.md.
const MAX_BYTES: usize = 64 << 20;

/// An event, with the body as it was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LiveEvent {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) session: String,
    pub(super) body: String,
}

/// What a listener receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Update {
    Event(Arc<LiveEvent>),
    /// Events may have been missed.
    Gap,
}

/// Keeps recent events. The lock is held to add or read one event, never across an await.
#[derive(Debug)]
pub(in crate::gateway) struct Hub {
    kept: Mutex<Ring>,
    /// The number of the next event.
    next: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    max_entries: usize,
    max_bytes: usize,
    /// The size of all bodies.
    bytes: usize,
    /// The number of the oldest entry.
    first: u64,
    /// None is a gap.
    entries: VecDeque<Option<Arc<LiveEvent>>>,
    ids: HashSet<Uuid>,
}

/// The fields of an event that are needed here.
#[derive(Deserialize)]
struct Head {
    id: Uuid,
    event: String,
    session: String,
}

impl Hub {
    pub(in crate::gateway) fn new(max_entries: usize) -> Self {
        let ring = Ring {
            max_entries,
            max_bytes: MAX_BYTES,
            bytes: 0,
            first: 0,
            entries: VecDeque::new(),
            ids: HashSet::new(),
        };
        Self {
            kept: Mutex::new(ring),
            next: watch::Sender::new(0),
        }
    }

    /// Adds an event or a gap. Duplicates and messages that cannot be parsed are dropped.
    pub(in crate::gateway) fn add(&self, heard: Heard) {
        let entry = match heard {
            Heard::Gap => None,
            Heard::Message(message) => {
                let Some(kept) = read(message.body) else {
                    return;
                };
                Some(Arc::new(kept))
            }
        };
        let mut ring = self.kept.lock();
        if let Some(next) = ring.push(entry) {
            drop(ring);
            self.next.send_replace(next);
        }
    }

    /// Listens from now on, or from after the last event that the client has seen.
    pub(super) fn listen(self: &Arc<Self>, filter: Filter, last_seen: Option<&str>) -> Listener {
        let ring = self.kept.lock();
        let now = ring.next();
        let (at, missed) = match last_seen {
            None => (now, false),
            Some(id) => match ring.after(id) {
                Some(at) => (at, false),
                // No longer in the buffer, or unknown: all buffered events may be new.
                None => (ring.first, true),
            },
        };
        drop(ring);
        events::listeners(1.0);
        Listener {
            hub: Arc::clone(self),
            news: self.next.subscribe(),
            filter,
            at,
            missed,
        }
    }
}

fn read(body: Vec<u8>) -> Option<LiveEvent> {
    let body = String::from_utf8(body).ok()?;
    let head: Head = serde_json::from_str(&body).ok()?;
    Some(LiveEvent {
        id: head.id,
        name: head.event,
        session: head.session,
        body,
    })
}

impl Ring {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds an entry; returns the number of the next one, or none for a duplicate.
    fn push(&mut self, entry: Option<Arc<LiveEvent>>) -> Option<u64> {
        if let Some(kept) = &entry
            && !self.ids.insert(kept.id)
        {
            return None;
        }
        self.bytes += entry.as_ref().map_or(0, |kept| kept.body.len());
        self.entries.push_back(entry);
        while self.entries.len() > self.max_entries || self.bytes > self.max_bytes {
            self.first += 1;
            if let Some(Some(oldest)) = self.entries.pop_front() {
                self.bytes -= oldest.body.len();
                self.ids.remove(&oldest.id);
            }
        }
        Some(self.next())
    }

    /// The position after a buffered event.
    fn after(&self, id: &str) -> Option<u64> {
        let id: Uuid = id.parse().ok()?;
        let same = |it: &Option<Arc<LiveEvent>>| it.as_ref().is_some_and(|kept| kept.id == id);
        let at = self.entries.iter().rposition(same)?;
        Some(self.first + at as u64 + 1)
    }
}

/// A reader of the buffer.
#[derive(Debug)]
pub(super) struct Listener {
    hub: Arc<Hub>,
    news: watch::Receiver<u64>,
    filter: Filter,
    at: u64,
    missed: bool,
}

impl Listener {
    /// The next event that the filter lets through.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Update {
        loop {
            if std::mem::take(&mut self.missed) {
                return Update::Gap;
            }
            // Before the scan, so that an event added in between is noticed.
            self.news.borrow_and_update();
            if let Some(next) = self.scan() {
                return next;
            }
            // Cannot fail: the listener holds the hub, which owns the sender.
            self.news.changed().await.ok();
        }
    }

    fn scan(&mut self) -> Option<Update> {
        let ring = self.hub.kept.lock();
        if self.at < ring.first {
            self.at = ring.first;
            return Some(Update::Gap);
        }
        let from = usize::try_from(self.at - ring.first).unwrap_or(usize::MAX);
        for entry in ring.entries.iter().skip(from) {
            self.at += 1;
            match entry {
                None => return Some(Update::Gap),
                Some(kept) if self.filter.matches(&kept.session, &kept.name) => {
                    return Some(Update::Event(Arc::clone(kept)));
                }
                Some(_) => {}
            }
        }
        None
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        events::listeners(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_goes_when_there_are_too_many_or_they_are_too_large() {
        let mut ring = Hub::new(3).kept.into_inner();
        ring.max_bytes = 50;
        let event = |bytes| LiveEvent {
            id: Uuid::new_v4(),
            name: String::new(),
            session: String::new(),
            body: " ".repeat(bytes),
        };
        let firsts = [10, 10, 10, 10, 45, 60, 10].map(|bytes| {
            ring.push(Some(Arc::new(event(bytes))));
            (ring.first, ring.entries.len(), ring.bytes)
        });
        let wanted = [
            (0, 1, 10),
            (0, 2, 20),
            (0, 3, 30),
            (1, 3, 30),
            (4, 1, 45),
            (6, 0, 0),
            (6, 1, 10),
        ];
        assert_eq!(firsts, wanted);
        assert_eq!(ring.ids.len(), 1);
    }
}
