//! WAHA's reports and snapshots of a group: late, truncated, old, and with any ids.

use super::*;

/// All ids that WAHA may use for a person: phones first, a private id last.
pub(super) fn names(who: usize) -> Vec<String> {
    let mut names = match who {
        // Numbers with two forms.
        1 => vec!["5511987654321".to_owned(), "551187654321".to_owned()],
        2 => vec!["5215512345678".to_owned(), "525512345678".to_owned()],
        _ => vec![format!("1555000000{}", who + 1)],
    };
    for name in &mut names {
        name.push_str("@c.us");
    }
    names.push(format!("771555000000{}@lid", who + 1));
    names
}

pub(super) fn who_is(id: &str) -> usize {
    let found = (0..=OTHERS).find(|who| names(*who).iter().any(|name| name == id));
    found.unwrap_or_else(|| panic!("{id} is nobody"))
}

/// The forms of an entry: by phone, by private id, by both; as hosted; in either form of the number.
pub(super) fn entry(who: usize, form: u8, role: Role) -> Value {
    let names = names(who);
    let phone = names[usize::from(form / 8) % (names.len() - 1)].clone();
    let lid = names[names.len() - 1].clone();
    let mut entry = match form % 8 {
        0 | 1 => json!({"id": phone}),
        2 | 3 => json!({"id": lid}),
        4 => json!({"id": phone.replace("@c.us", ":99@hosted")}),
        5 => json!({"id": lid.replace("@lid", ":99@hosted.lid")}),
        _ => json!({"id": lid, "phoneNumber": phone.replace("@c.us", "@s.whatsapp.net")}),
    };
    entry["role"] = serde_json::to_value(role).unwrap();
    entry
}

/// A list of members in WAHA's format.
pub(super) fn listed(people: &BTreeMap<usize, Role>, forms: &[u8]) -> Vec<Value> {
    let entry = |(who, role): (&usize, &Role)| entry(*who, forms[*who], *role);
    people.iter().map(entry).collect()
}

pub(super) fn snapshot(people: &[Value], size: Option<usize>) -> Box<GroupSnapshot> {
    let told = json!({
        "id": "12345@g.us", "subject": "Climbing", "size": size, "participants": people,
    });
    Box::new(wire::group(&told).unwrap())
}

/// The observation in a webhook about a change.
pub(super) fn observe(
    state: &State,
    who: usize,
    what: Happening,
    (_, form, cut): Hook,
) -> Observation {
    let role = state.people.get(&who).copied().unwrap_or(Role::Participant);
    let people = wire::named(&json!([entry(who, form, role)]));
    match (who, what) {
        (0, Happening::Came) => {
            let mut people = listed(&state.people, &[form; OTHERS + 1]);
            let size = people.len();
            if cut {
                people.pop();
            }
            Observation::OwnJoined(snapshot(&people, Some(size)))
        }
        (0, Happening::Went) if cut => Observation::OwnLeft(NotificationType::Leave),
        (_, Happening::Came) => Observation::MembersJoined(people, NotificationType::Add),
        (_, Happening::Went) => Observation::MembersLeft(people, NotificationType::Leave),
        (_, Happening::Promoted) => Observation::Promoted(people),
        (_, Happening::Demoted) => Observation::Demoted(people),
    }
}

/// The faults of snapshots.
pub(super) struct SnapshotFaults {
    /// Somebody may be missing without any sign; then not again before a snapshot that lacks nobody.
    pub(super) may_lie: bool,
    pub(super) ghosts: bool,
}

impl SnapshotFaults {
    pub(super) fn look(
        &mut self,
        truth: &Truth,
        at: i64,
        (age, _, cut, gone, forms): &Look,
    ) -> Option<Observation> {
        let must_be_true = !self.may_lie;
        let age = if must_be_true { 0 } else { *age };
        let state = truth.at(at - age);
        if !state.inside {
            // The group is shown without the account, as it was when the account left; or not at all.
            let people = listed(&state.people, forms);
            let size = people.len() + usize::from(cut % 3 == 1);
            return match cut % 3 {
                0 => Some(Observation::Missing),
                _ if people.is_empty() => None,
                _ => Some(Observation::Snapshot(snapshot(&people, Some(size)))),
            };
        }
        let mut shown = state.people.clone();
        if self.ghosts {
            shown.extend(truth.ghosts(at - age));
        }
        let mut people = listed(&shown, forms);
        let size = people.len();
        if must_be_true {
            self.may_lie = true;
            return Some(Observation::Snapshot(snapshot(&people, Some(size))));
        }
        let lacks = usize::from(*gone) % size;
        // The list that a join is published with has to be complete if it does not say otherwise.
        let is_settled = !truth
            .happenings
            .iter()
            .any(|(since, who, _)| *who == 0 && *since > FIRST);
        let cut = if is_settled || !matches!(cut % 8, 4 | 5) {
            *cut
        } else {
            6
        };
        Some(match cut % 8 {
            // Members are missing, and the size shows it.
            0 | 1 => {
                // The account itself is listed; NOWEB's store lists groups that it has left without
                // it.
                people.remove(lacks.max(1).min(size - 1));
                people.truncate(1 + usize::from(*gone) / 64);
                Observation::Snapshot(snapshot(&people, Some(size + 1)))
            }
            // An entry without an id.
            2 => {
                people[lacks] = json!({"id": "status@broadcast"});
                Observation::Snapshot(snapshot(&people, None))
            }
            // A stub.
            3 => Observation::Snapshot(snapshot(&[], Some(952))),
            // A member, or the whole group, is missing without any sign.
            4 => {
                self.may_lie = false;
                people.remove(lacks);
                Observation::Snapshot(snapshot(&people, None))
            }
            5 => {
                self.may_lie = false;
                Observation::Missing
            }
            _ => Observation::Snapshot(snapshot(&people, Some(size))),
        })
    }
}
