//! People who are listed, or reported to have joined, by an id that matches no known person.

use super::apply_snapshot::SnapshotView;
use super::member_index::PersonIds;
use super::pending_commands::MemberChange;
use super::reducer::Reducer;
use super::{Source, UnmatchedJoin};
use crate::contract::ParticipantId;
use crate::engines::sync::{Completeness, Person};

impl Reducer<'_> {
    /// Records a join by a private id that may belong to a known person.
    pub(super) fn record_unmatched_join(
        &mut self,
        ids: &PersonIds,
        key: Option<&ParticipantId>,
        kind: MemberChange,
    ) {
        let is_told = matches!(self.report.source, Source::Notification(_));
        if let (MemberChange::Join, None, None, Some(lid)) = (kind, key, &ids.phone, &ids.lid)
            && is_told
        {
            let unmatched = UnmatchedJoin {
                at: self.report.at,
                observed_at: self.report.now,
            };
            self.state.unmatched_joins.insert(lid.clone(), unmatched);
        }
    }

    /// The unmatched entries (`open`) that are certainly new people. `missing` are the members who are
    /// not listed.
    pub(super) fn certain_joins(
        &mut self,
        view: &SnapshotView<'_>,
        open: &[(&PersonIds, &Person)],
        missing: &[(ParticipantId, PersonIds)],
    ) -> Vec<Person> {
        // A former member may still be shown, by another id.
        let people = self.state.people.iter();
        let gone = people.filter(|(id, it)| {
            it.role.is_none() && !view.listed.iter().any(|(ids, _)| ids.has(id))
        });
        let gone = gone.map(|(id, _)| {
            let ids = self.index.ids_of([id], &self.state.phones);
            (id.clone(), ids)
        });
        let gone: Vec<_> = gone.filter(|(_, ids)| !is_listed(view, ids)).collect();
        let others: Vec<_> = missing.iter().chain(&gone).collect();
        let is_new = |ids: &PersonIds| !others.iter().any(|(_, it)| it.may_be(ids));
        let certain = open.iter().filter(|(ids, _)| is_new(ids));
        let mut new: Vec<_> = certain.map(|(_, it)| (*it).clone()).collect();
        let private = open.iter().filter(|(ids, _)| ids.phone.is_none());
        let private = private.filter(|(ids, _)| !is_new(ids)).count();
        let without = others.iter().filter(|(_, ids)| ids.lid.is_none()).count();
        let surplus = private.saturating_sub(without);
        if view.extent == Completeness::Complete && self.state.complete {
            new.extend(self.confirmed_unmatched_joins(open, &others, surplus));
        }
        new
    }

    /// The reported joins that are in a complete list, if the list has enough private ids more than
    /// there are people (`others`) to match them.
    fn confirmed_unmatched_joins(
        &mut self,
        open: &[(&PersonIds, &Person)],
        others: &[&(ParticipantId, PersonIds)],
        surplus: usize,
    ) -> Vec<Person> {
        let (begun, lag) = (self.report.observed_at, self.lag.of_lists());
        let listed = |lid: &ParticipantId| open.iter().find(|(ids, _)| ids.has(lid));
        // An id that is not listed has left, or has been matched.
        let is_waiting = |lid: &ParticipantId, it: &UnmatchedJoin| {
            listed(lid).is_some() || begun - it.observed_at < lag
        };
        self.state
            .unmatched_joins
            .retain(|lid, it| is_waiting(lid, it));
        // The same join may have been reported by phone too: then the state of that phone is as new,
        // even if they have left since.
        let people = &self.state.people;
        let others = others.iter().filter_map(|(id, _)| people.get(id));
        let latest = others.map(|it| it.at).max().unwrap_or(i64::MIN);
        let certain = self.state.unmatched_joins.iter();
        let certain =
            certain.filter(|(_, it)| begun - it.observed_at >= lag && it.at - lag > latest);
        let certain = certain.filter_map(|(lid, _)| listed(lid));
        let certain: Vec<_> = certain.map(|(_, person)| (*person).clone()).collect();
        if certain.len() > surplus {
            return Vec::new();
        }
        certain
    }
}

fn is_listed(view: &SnapshotView<'_>, ids: &PersonIds) -> bool {
    view.listed.iter().any(|(listed, _)| listed.is(ids))
}
