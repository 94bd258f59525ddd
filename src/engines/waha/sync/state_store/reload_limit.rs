//! When WAHA was last made to ask WhatsApp for a session's groups.

use std::sync::PoisonError;

use super::StateStore;
use crate::contract::SessionName;

/// The least time between two such requests of commands in one session; milliseconds.
const BETWEEN: i64 = 2_000;

impl StateStore {
    /// Whether a session's groups may be asked for anew; they are taken to be, then.
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
