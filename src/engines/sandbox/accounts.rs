//! The accounts of the sandbox, by session and by phone: a change of a group looks up its people, however many
//! sessions there are.

use std::collections::BTreeMap;

use crate::contract::{ParticipantId, SessionName};
use crate::store::sandbox_groups::SandboxGroup;

/// The accounts; no two sessions have the same.
#[derive(Debug)]
pub(super) struct Accounts {
    phones: BTreeMap<SessionName, ParticipantId>,
    sessions: BTreeMap<ParticipantId, SessionName>,
}

impl Accounts {
    pub(super) fn new(phones: BTreeMap<SessionName, ParticipantId>) -> Self {
        let sessions = phones
            .iter()
            .map(|(name, phone)| (phone.clone(), name.clone()));
        Self {
            sessions: sessions.collect(),
            phones,
        }
    }

    /// The phone of a session.
    pub(super) fn phone(&self, session: &SessionName) -> Option<&ParticipantId> {
        self.phones.get(session)
    }

    /// The sessions of some people, by name.
    pub(super) fn sessions_of<'a>(
        &self,
        people: impl IntoIterator<Item = &'a ParticipantId>,
    ) -> Vec<SessionName> {
        let named = people.into_iter().filter_map(|who| self.sessions.get(who));
        let mut named: Vec<_> = named.cloned().collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// The sessions whose account is in a group, by name.
    pub(super) fn sessions_inside(&self, group: &SandboxGroup) -> Vec<SessionName> {
        if self.phones.len() > group.members.len() {
            return self.sessions_of(group.members.keys());
        }
        let all = self.phones.iter();
        let inside = all.filter(|(_, phone)| group.members.contains_key(*phone));
        inside.map(|(session, _)| session.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_by_their_people_however_many_there_are() {
        let phone = |n: usize| format!("4917{n:08}@c.us").parse().unwrap();
        let session = |n: usize| format!("s{n}").parse::<SessionName>().unwrap();
        let accounts = Accounts::new((0..30).map(|n| (session(n), phone(n))).collect());
        assert_eq!(accounts.phone(&session(7)), Some(&phone(7)));
        let people = [phone(22), phone(99), phone(3), phone(22)];
        assert_eq!(accounts.sessions_of(&people), [session(22), session(3)]);
    }
}
