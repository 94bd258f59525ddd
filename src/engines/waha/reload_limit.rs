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

    /// Counts a reload that is not limited.
    pub(super) fn count(&self, session: &SessionName, now: i64) {
        self.reloaded.lock().insert(session.clone(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_a_command_asked_for_is_not_repeated_at_once() {
        let limit = ReloadLimit::default();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        limit.count(&one, 1_000);
        assert!(!limit.may_reload(&one, 2_999));
        assert!(limit.may_reload(&other, 2_999));
        assert!(limit.may_reload(&one, 3_000));
    }
}
