//! When a snapshot is believed over the state.
//!
//! A list may date from before a change, may lack people or groups for a while, and WhatsApp Web still
//! shows people who have left. So a contradiction is unconfirmed at first. It is confirmed when
//! another snapshot, requested long enough after the first, shows the same, and nothing reported or
//! shown in between contradicts it. Unconfirmed changes are stored with the state: a restart loses
//! none.

use serde::{Deserialize, Serialize};

use crate::contract::Role;

/// How many times longer somebody whose departure was reported must be shown before that is believed.
const STUBBORN: i64 = 60;

/// The number of snapshots that must agree that all of a session's groups are gone,
const ALL_LOOKS: u8 = 5;

/// and the time that they must cover, in multiples of the usual lag.
const ALL_SPAN: i64 = 8;

/// The maximum age of the engine's lists; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines) struct Lag(i64);

impl Lag {
    pub(in crate::engines) fn new(lag: std::time::Duration) -> Self {
        Self(
            i64::try_from(lag.as_millis())
                .unwrap_or(i64::MAX / STUBBORN)
                .max(1),
        )
    }

    /// A list shows a state that is no older than this.
    pub(in crate::engines) const fn of_lists(self) -> i64 {
        self.0
    }

    /// A list shows somebody whose departure was reported no longer than this.
    pub(in crate::engines) const fn of_departures(self) -> i64 {
        self.0.saturating_mul(STUBBORN)
    }
}

/// A snapshot contradicts the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnconfirmedChange {
    /// When the first snapshot that showed it was requested.
    since: i64,
    /// What it showed: a role, or absence.
    role: Option<Role>,
}

/// Whether to believe a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines) enum Confirmation {
    Confirmed,
    /// Another snapshot, requested no sooner than this, may decide.
    Recheck(i64),
}

/// A list showed none, or few, of a session's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines) struct MissingGroups {
    /// When the first such snapshot was requested.
    since: i64,
    #[serde(rename = "looks")]
    snapshots: u8,
    /// Groups were known; without any, that there are none is no contradiction.
    #[serde(default)]
    known: bool,
}

/// Records a snapshot that shows no groups, or few of the known ones. Returns the decision, and
/// whether this is the first such snapshot.
pub(in crate::engines) fn confirm_missing_groups(
    unconfirmed: &mut Option<MissingGroups>,
    begun: i64,
    known: bool,
    lag: Lag,
) -> (Confirmation, bool) {
    // Snapshots from before any group was known prove nothing about later groups.
    *unconfirmed = unconfirmed.filter(|unconfirmed| unconfirmed.known == known);
    let is_first = unconfirmed.is_none();
    let all = unconfirmed.get_or_insert(MissingGroups {
        since: begun,
        snapshots: 0,
        known,
    });
    all.snapshots = all.snapshots.saturating_add(1);
    let span = lag.of_lists().saturating_mul(ALL_SPAN);
    let verdict = if all.snapshots >= ALL_LOOKS && begun - all.since >= span {
        Confirmation::Confirmed
    } else {
        Confirmation::Recheck(begun.saturating_add(span / i64::from(ALL_LOOKS - 1)))
    };
    (verdict, is_first)
}

/// Records a snapshot that contradicts a member's known role.
pub(super) fn confirm(
    unconfirmed: &mut Option<UnconfirmedChange>,
    shown: Option<Role>,
    begun: i64,
    span: i64,
) -> Confirmation {
    let same = unconfirmed.filter(|unconfirmed| rank(unconfirmed.role) == rank(shown));
    let since = same.map_or(begun, |unconfirmed| unconfirmed.since);
    *unconfirmed = Some(UnconfirmedChange { since, role: shown });
    if begun - since >= span {
        Confirmation::Confirmed
    } else {
        Confirmation::Recheck(since + span)
    }
}

/// The roles that events distinguish: engines differ in whom they call a superadmin.
pub(super) fn rank(role: Option<Role>) -> Option<u8> {
    role.map(|role| u8::from(role != Role::Participant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_confirmed_when_a_later_snapshot_shows_it_again() {
        let mut unconfirmed = None;
        let mut snapshot = |shown, begun| confirm(&mut unconfirmed, shown, begun, 60);
        assert_eq!(snapshot(None, 100), Confirmation::Recheck(160));
        assert_eq!(snapshot(None, 159), Confirmation::Recheck(160));
        // A different contradiction starts again.
        assert_eq!(snapshot(Some(Role::Admin), 160), Confirmation::Recheck(220));
        assert_eq!(
            snapshot(Some(Role::Superadmin), 220),
            Confirmation::Confirmed
        );
    }

    #[test]
    fn leaving_all_groups_takes_several_snapshots_over_a_while_to_confirm() {
        let lag = Lag(60);
        let mut unconfirmed = None;
        let mut snapshots = 0;
        let mut due = 1_000;
        while let (Confirmation::Recheck(next), is_first) =
            confirm_missing_groups(&mut unconfirmed, due, true, lag)
        {
            assert!(next > due);
            assert_eq!(is_first, snapshots == 0);
            due = next;
            snapshots += 1;
        }
        assert_eq!((snapshots, due), (4, 1_480));
        // Many snapshots at the same time count as one.
        let mut unconfirmed = None;
        for _ in 0..100 {
            let (verdict, _) = confirm_missing_groups(&mut unconfirmed, 1_000, true, lag);
            assert_ne!(verdict, Confirmation::Confirmed);
        }
    }

    #[test]
    fn snapshots_from_before_any_group_do_not_count_against_later_groups() {
        let lag = Lag(60);
        let mut unconfirmed = None;
        for snapshot in 0..100 {
            confirm_missing_groups(&mut unconfirmed, 1_000 + snapshot * 60, false, lag);
        }
        let (verdict, is_first) = confirm_missing_groups(&mut unconfirmed, 10_000, true, lag);
        assert_ne!(verdict, Confirmation::Confirmed);
        assert!(is_first);
    }

    #[test]
    fn the_longest_lag_does_not_overflow() {
        let lag = Lag::new(std::time::Duration::MAX);
        assert!(lag.of_departures() >= lag.of_lists());
    }
}
