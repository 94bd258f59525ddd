//! Somebody who adds up the events, and knows what really happened.

use super::*;

/// Somebody who adds up the events.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    pub(super) inside: bool,
    /// Who is in the group, as what, and by which id, where an event has said it.
    pub(super) people: BTreeMap<usize, (Role, Option<String>)>,
    /// The time of the last published change of each person.
    pub(super) last: BTreeMap<usize, i64>,
    pub(super) ranked: BTreeMap<usize, i64>,
    /// Who was named by an event since the account joined. What had to wait for that is in its list
    /// already, and is published all the same.
    pub(super) named: std::collections::BTreeSet<usize>,
    /// People who left and came back under another id, without a report that both ids are theirs. One
    /// person may then be known under two ids until the pair is reported.
    pub(super) doubles: Vec<Double>,
    /// The id by which an event has named each person last.
    pub(super) ids: BTreeMap<usize, String>,
    pub(super) sequence: u64,
}

/// The state of a person under one of two ids.
#[derive(Debug)]
pub(super) struct Double {
    who: usize,
    known: (Role, Option<String>),
    last: Option<i64>,
    ranked: Option<i64>,
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
                self.forget();
                for person in payload["group"]["participants"].as_array().unwrap() {
                    let id = person["id"].as_str().unwrap().to_owned();
                    let role = serde_json::from_value(person["role"].clone()).unwrap();
                    let who = who_is(&id);
                    // A former member may still be shown, by another id than their departure was
                    // reported by. As the pair is not reported, they leave under that id as well.
                    let is_gone = !truth.at(now).people.contains_key(&who);
                    if is_gone && self.ids.insert(who, id.clone()).is_some_and(|it| it != id) {
                        self.last.remove(&who);
                    }
                    let double = self.people.insert(who, (role, Some(id)));
                    prop_assert!(double.is_none(), "listed twice");
                }
            }
            "group.v2.leave" => {
                prop_assert!(self.inside, "left twice");
                self.inside = false;
                self.happened(0, Happening::Went, now, truth)?;
                self.forget();
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

    fn forget(&mut self) {
        self.people.clear();
        self.named.clear();
        self.doubles.clear();
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
        let what = match kind {
            "join" => Happening::Came,
            "leave" => Happening::Went,
            "promote" => Happening::Promoted,
            _ => Happening::Demoted,
        };
        self.turn_to(who, id);
        if what == Happening::Came {
            self.may_be_double(who, id, now, truth);
        }
        let before = self.people.get(&who).cloned();
        if let Some((_, Some(named))) = &before {
            prop_assert_eq!(named, id, "another id than before");
        }
        self.happened(who, what, now, truth)?;
        self.ids.insert(who, id.to_owned());
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
        if role.is_none()
            && let Some(index) = self.doubles.iter().position(|it| it.who == who)
        {
            let other = self.doubles.remove(index);
            self.put(other);
        }
        Ok(())
    }

    /// Switches to the entry of a person who is known under two ids.
    fn turn_to(&mut self, who: usize, id: &str) {
        let is_it = |named: &Option<String>| named.as_deref() == Some(id);
        if self.people.get(&who).is_none_or(|(_, named)| is_it(named)) {
            return;
        }
        let is_double = |it: &Double| it.who == who && (it.known.1.is_none() || is_it(&it.known.1));
        if let Some(index) = self.doubles.iter().position(is_double) {
            let double = self.doubles.remove(index);
            self.set_aside(who);
            self.put(double);
        }
    }

    fn set_aside(&mut self, who: usize) {
        self.doubles
            .extend(self.people.remove(&who).map(|known| Double {
                who,
                known,
                last: self.last.get(&who).copied(),
                ranked: self.ranked.get(&who).copied(),
            }));
    }

    fn put(&mut self, double: Double) {
        let Double {
            who,
            known,
            last,
            ranked,
        } = double;
        self.people.insert(who, known);
        self.last.insert(who, last.unwrap_or(i64::MIN));
        self.ranked.insert(who, ranked.unwrap_or(i64::MIN));
    }

    /// A known person joins under another id, and has left in truth since: they are known twice.
    fn may_be_double(&mut self, who: usize, id: &str, now: i64, truth: &Truth) {
        let named = self.people.get(&who).map(|(_, named)| named.as_deref());
        if named.is_none_or(|named| named == Some(id)) {
            return;
        }
        let after = self.last.get(&who).copied().unwrap_or(i64::MIN);
        if let Some(went) = truth.first(who, Happening::Went, after, now) {
            self.set_aside(who);
            self.last.insert(who, went);
        }
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
        // An admin who left and came back, both unreported, is no admin any more.
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
