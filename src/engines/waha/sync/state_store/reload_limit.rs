//! Limits how often commands make WAHA reload a session's groups from WhatsApp.

use std::sync::PoisonError;

use super::StateStore;
use crate::contract::SessionName;

/// The shortest time between two reloads by commands in one session; milliseconds.
const BETWEEN: i64 = 2_000;

impl StateStore {
    /// Whether a session's groups may be reloaded; if so, the reload is counted.
    pub(in crate::engines::waha) fn may_reload(&self, session: &SessionName) -> bool {
        let now = self.now();
        let refreshed = self.refreshed.lock();
        let mut refreshed = refreshed.unwrap_or_else(PoisonError::into_inner);
        refreshed.retain(|_, at| (0..BETWEEN).contains(&(now - *at)));
        if refreshed.contains_key(session) {
            return false;
        }
        refreshed.insert(session.clone(), now);
        true
    }
}
