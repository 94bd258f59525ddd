//! Somebody who adds up the events, and knows what really happened.

use super::*;

/// Somebody who adds up the events.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    pub(super) inside: bool,
    /// Who is in the group, as what, and by which id, where an event has said it.
    pub(super) people: BTreeMap<usize, (Role, Option<String>)>,
    /// When what was published last of somebody happened.
    pub(super) last: BTreeMap<usize, i64>,
    pub(super) ranked: BTreeMap<usize, i64>,
    /// Who was named by an event since the account joined. What had to wait for that is in its list
    /// already, and is published all the same.
    pub(super) named: std::collections::BTreeSet<usize>,
    pub(super) sequence: u64,
}

impl Consumer {
    /// Takes an event; `now` is when it is published.
    pub(super) fn take(
        &mut self,
        event: &Value,
        now: i64,
        truth: &Truth,
    ) -> Result<(), TestCaseError> {
        let payload = &event["payload"];
        self.sequence += 1;
        prop_assert_eq!(payload["sequence"].as_u64(), Some(self.sequence));
        match event["event"].as_str().unwrap() {
            "group.v2.join" => {
                prop_assert!(!self.inside, "joined twice");
                self.inside = true;
                self.happened(0, Happening::Came, now, truth)?;
                self.people.clear();
                self.named.clear();
                for person in payload["group"]["participants"].as_array().unwrap() {
                    let id = person["id"].as_str().unwrap().to_owned();
                    let role = serde_json::from_value(person["role"].clone()).unwrap();
                    let double = self.people.insert(who_is(&id), (role, Some(id)));
                    prop_assert!(double.is_none(), "listed twice");
                }
            }
            "group.v2.leave" => {
                prop_assert!(self.inside, "left twice");
                self.inside = false;
                self.happened(0, Happening::Went, now, truth)?;
                self.people.clear();
                self.named.clear();
            }
            "group.v2.participants" => {
                let kind = payload["type"].as_str().unwrap();
                for person in payload["participants"].as_array().unwrap() {
                    let id = person["id"].as_str().unwrap();
                    self.person(kind, id, &person["role"], now, truth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn person(
        &mut self,
        kind: &str,
        id: &str,
        role: &Value,
        now: i64,
        truth: &Truth,
    ) -> Result<(), TestCaseError> {
        let who = who_is(id);
        let role: Option<Role> = serde_json::from_value(role.clone()).unwrap();
        let before = self.people.get(&who).cloned();
        if let Some((_, Some(named))) = &before {
            prop_assert_eq!(named, id, "another id than before");
        }
        let what = match kind {
            "join" => Happening::Came,
            "leave" => Happening::Went,
            "promote" => Happening::Promoted,
            _ => Happening::Demoted,
        };
        self.happened(who, what, now, truth)?;
        let is_first = self.named.insert(who);
        let fits = match (what, before.map(|(role, _)| role)) {
            (Happening::Came, before) => before.is_none(),
            (Happening::Went, before) => before.is_some(),
            (Happening::Promoted, before) => before == Some(Role::Participant),
            (Happening::Demoted, before) => matches!(before, Some(Role::Admin | Role::Superadmin)),
        };
        prop_assert!(fits || is_first, "{what:?} of {who} by {now}");
        match role {
            Some(role) => self.people.insert(who, (role, Some(id.to_owned()))),
            None => self.people.remove(&who),
        };
        Ok(())
    }

    /// Each event is something that happened by then, after what was published of them before.
    pub(super) fn happened(
        &mut self,
        who: usize,
        what: Happening,
        now: i64,
        truth: &Truth,
    ) -> Result<(), TestCaseError> {
        let of_rank = matches!(what, Happening::Promoted | Happening::Demoted);
        let last = if of_rank {
            &mut self.ranked
        } else {
            &mut self.last
        };
        let after = last.get(&who).copied().unwrap_or(i64::MIN);
        // An admin who left and came back, with nobody told of either, is an admin no more.
        let is_it =
            |it: Happening| it == what || (what == Happening::Demoted && it == Happening::Came);
        let found = truth
            .happenings
            .iter()
            .find(|(at, of, it)| *of == who && is_it(*it) && *at > after && *at <= now);
        prop_assert!(found.is_some(), "{what:?} of {who} did not happen by {now}");
        last.insert(who, found.unwrap().0);
        Ok(())
    }
}
