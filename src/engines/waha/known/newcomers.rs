//! Who is shown, or told to have come, by an id that nobody can match with the people of the group.

use super::causes::Kind;
use super::comparing::View;
use super::identity::Ids;
use super::telling::Telling;
use super::{Newcomer, Source};
use crate::contract::ParticipantId;
use crate::engines::waha::wire::{Extent, Person};

impl Telling<'_> {
    /// Notes who was told to have come by a private id alone and may be one of the known.
    pub(super) fn may_have_come(&mut self, ids: &Ids, key: Option<&ParticipantId>, kind: Kind) {
        let is_told = matches!(self.report.source, Source::Notification(_));
        if let (Kind::Come, None, None, Some(lid)) = (kind, key, &ids.phone, &ids.lid)
            && is_told
        {
            let newcomer = Newcomer {
                at: self.report.at,
                heard: self.report.now,
            };
            self.known.newcomers.insert(lid.clone(), newcomer);
        }
    }

    /// Who of the listed that nobody can match (`open`) is certainly new. `missing` are the members
    /// who are not listed.
    pub(super) fn new_among(
        &mut self,
        view: &View<'_>,
        open: &[(&Ids, &Person)],
        missing: &[(ParticipantId, Ids)],
    ) -> Vec<Person> {
        // Who is gone may be shown still, by another id.
        let people = self.known.people.iter();
        let gone = people.filter(|(id, it)| {
            it.role.is_none() && !view.listed.iter().any(|(ids, _)| ids.has(id))
        });
        let gone = gone.map(|(id, _)| {
            let ids = self.directory.ids_of([id], &self.known.phones);
            (id.clone(), ids)
        });
        let gone: Vec<_> = gone.filter(|(_, ids)| !is_listed(view, ids)).collect();
        let others: Vec<_> = missing.iter().chain(&gone).collect();
        let is_new = |ids: &Ids| !others.iter().any(|(_, it)| it.may_be(ids));
        let certain = open.iter().filter(|(ids, _)| is_new(ids));
        let mut new: Vec<_> = certain.map(|(_, it)| (*it).clone()).collect();
        let private = open.iter().filter(|(ids, _)| ids.phone.is_none());
        let private = private.filter(|(ids, _)| !is_new(ids)).count();
        let without = others.iter().filter(|(_, ids)| ids.lid.is_none()).count();
        let surplus = private.saturating_sub(without);
        if view.extent == Extent::Whole && self.known.whole {
            new.extend(self.newcomers_in(open, &others, surplus));
        }
        new
    }

    /// Those of the told newcomers who are among the listed, where a whole list has so many more
    /// private ids than there are people (`others`) to match them.
    fn newcomers_in(
        &mut self,
        open: &[(&Ids, &Person)],
        others: &[&(ParticipantId, Ids)],
        surplus: usize,
    ) -> Vec<Person> {
        let (begun, lag) = (self.report.heard, self.lag.usual());
        let listed = |lid: &ParticipantId| open.iter().find(|(ids, _)| ids.has(lid));
        // One that is not listed is gone, or has been matched.
        let is_waiting =
            |lid: &ParticipantId, it: &Newcomer| listed(lid).is_some() || begun - it.heard < lag;
        self.known.newcomers.retain(|lid, it| is_waiting(lid, it));
        // The same coming may have been told by phone too: then what is known of that phone is as new,
        // even where they have left since.
        let people = &self.known.people;
        let others = others.iter().filter_map(|(id, _)| people.get(id));
        let latest = others.map(|it| it.at).max().unwrap_or(i64::MIN);
        let certain = self.known.newcomers.iter();
        let certain = certain.filter(|(_, it)| begun - it.heard >= lag && it.at - lag > latest);
        let certain = certain.filter_map(|(lid, _)| listed(lid));
        let certain: Vec<_> = certain.map(|(_, person)| (*person).clone()).collect();
        if certain.len() > surplus {
            return Vec::new();
        }
        certain
    }
}

fn is_listed(view: &View<'_>, ids: &Ids) -> bool {
    view.listed.iter().any(|(listed, _)| listed.is(ids))
}
