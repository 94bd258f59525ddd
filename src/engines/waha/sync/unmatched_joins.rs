//! Who is shown, or told to have come, by an id that nobody can match with the people of the group.

use super::apply_snapshot::SnapshotView;
use super::member_index::PersonIds;
use super::pending_commands::MemberChange;
use super::reducer::Reducer;
use super::{Source, UnmatchedJoin};
use crate::contract::ParticipantId;
use crate::engines::waha::wire::{Completeness, Person};

impl Reducer<'_> {
    /// Notes who was told to have come by a private id alone and may be one of the known.
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

    /// Who of the listed that nobody can match (`open`) is certainly new. `missing` are the members
    /// who are not listed.
    pub(super) fn certain_joins(
        &mut self,
        view: &SnapshotView<'_>,
        open: &[(&PersonIds, &Person)],
        missing: &[(ParticipantId, PersonIds)],
    ) -> Vec<Person> {
        // Who is gone may be shown still, by another id.
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

    /// Those of the told newcomers who are among the listed, where a whole list has so many more
    /// private ids than there are people (`others`) to match them.
    fn confirmed_unmatched_joins(
        &mut self,
        open: &[(&PersonIds, &Person)],
        others: &[&(ParticipantId, PersonIds)],
        surplus: usize,
    ) -> Vec<Person> {
        let (begun, lag) = (self.report.observed_at, self.lag.of_lists());
        let listed = |lid: &ParticipantId| open.iter().find(|(ids, _)| ids.has(lid));
        // One that is not listed is gone, or has been matched.
        let is_waiting = |lid: &ParticipantId, it: &UnmatchedJoin| {
            listed(lid).is_some() || begun - it.observed_at < lag
        };
        self.state
            .unmatched_joins
            .retain(|lid, it| is_waiting(lid, it));
        // The same coming may have been told by phone too: then what is known of that phone is as new,
        // even where they have left since.
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
