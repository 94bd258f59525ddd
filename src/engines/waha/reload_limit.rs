//! Limits how often commands make WAHA reload a session's groups from WhatsApp.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::contract::SessionName;

/// The shortest time between two reloads by commands in one session; milliseconds.
const BETWEEN: i64 = 2_000;

/// When commands last made WAHA reload each session's groups; milliseconds.
#[derive(Debug, Default)]
pub(super) struct ReloadLimit {
    // A std mutex: held for map operations and never across an await.
    reloaded: Mutex<BTreeMap<SessionName, i64>>,
}

impl ReloadLimit {
    /// Whether a session's groups may be reloaded; if so, the reload is counted.
    pub(super) fn may_reload(&self, session: &SessionName, now: i64) -> bool {
        let mut reloaded = self.reloaded.lock();
        reloaded.retain(|_, at| (0..BETWEEN).contains(&(now - *at)));
        if reloaded.contains_key(session) {
            return false;
        }
        reloaded.insert(session.clone(), now);
        true
    }
}
