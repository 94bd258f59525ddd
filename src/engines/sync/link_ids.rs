//! Records that two ids belong to one person, and merges the members known by either.

use super::member_index::{MemberIndex, PersonIds};
use super::reducer::Reducer;
use crate::contract::{NotificationType, ParticipantId};
use crate::engines::sync::Person;

impl Reducer<'_> {
    /// Records that two ids belong to one person, if the entry has both.
    pub(super) fn link_ids(&mut self, person: &Person) {
        let Some(lid) = person.lid.as_ref().filter(|_| !person.is_private()) else {
            return;
        };
        let phone = &person.id;
        let ids = |id: &ParticipantId| self.index.ids_of([id], &self.state.phones);
        let (by_phone, by_lid) = (ids(phone), ids(lid));
        if by_phone.has(lid) && by_lid.has(phone) {
            return;
        }
        let key = |ids: &PersonIds| self.index.key(ids);
        let (one, other) = (key(&by_phone), key(&by_lid));
        let is_known_otherwise = |ids: &PersonIds, key: &Option<ParticipantId>| {
            let member = key.as_ref().and_then(|key| self.state.people.get(key));
            ids.phone.is_some() && ids.lid.is_some() && member.is_some_and(|it| it.role.is_some())
        };
        // A changed number or private id; members keep their identity while they are in the group.
        if is_known_otherwise(&by_phone, &one) || is_known_otherwise(&by_lid, &other) {
            return;
        }
        let replaced = by_phone.lid.is_some() || by_lid.phone.is_some();
        if let Some(earlier) = &by_phone.lid {
            self.state.phones.remove(earlier);
        }
        self.state.phones.insert(lid.clone(), phone.clone());
        match (one, other) {
            (Some(one), Some(other)) if one != other => self.merge(&one, &other),
            (None, Some(other)) if self.may_change_id(&other) => {
                if let Some(member) = self.state.people.remove(&other) {
                    self.state.people.insert(phone.clone(), member);
                }
            }
            (one, other) if !replaced => {
                self.index.learn(lid, phone, one.or(other).as_ref());
                return;
            }
            _ => {}
        }
        self.index = MemberIndex::new(&self.state.people, &self.state.phones);
    }

    /// Whether no event has named somebody by their private id, or they have left.
    fn may_change_id(&self, lid: &ParticipantId) -> bool {
        let member = self.state.people.get(lid);
        member.is_some_and(|member| member.unpublished || member.role.is_none())
    }

    /// Two known members are one person.
    fn merge(&mut self, phone: &ParticipantId, lid: &ParticipantId) {
        let people = &mut self.state.people;
        let (Some(one), Some(other)) = (people.get(phone).cloned(), people.get(lid).cloned())
        else {
            return;
        };
        match (one.role, other.role) {
            (None, None) => {
                people.remove(lid);
                let later = if one.at < other.at { other } else { one };
                people.insert(phone.clone(), later);
            }
            (None, Some(_)) if other.unpublished => {
                people.remove(lid);
                people.insert(phone.clone(), other);
            }
            (None, Some(_)) => {
                people.remove(phone);
            }
            (Some(_), None) => {
                people.remove(lid);
            }
            (Some(_), Some(_)) => {
                // They left, unreported, and came back by a private id that matched nobody. An
                // unmatched phone waits until its private id is reported.
                people.remove(phone);
                if !(one.unpublished && other.unpublished) {
                    let batch = vec![(phone.clone(), None)];
                    self.publish_left(batch, NotificationType::Leave, None);
                }
            }
        }
    }
}
