//! Commands that change nothing.

use super::{Completed, Operation, not_allowed};
use crate::contract::{
    CommandResult, Count, Exclude, Group, GroupId, ListGroups, SortBy, SortOrder,
};
use crate::engines::EngineError;
use crate::engines::sync::{GroupSnapshot, Person};
use crate::engines::waha::client::{ApiRequest, within};
use crate::engines::waha::error::{FailureCause, Intent};
use crate::engines::waha::wire::{done, invite_code};
use crate::store::known_groups::KnownKey;

/// The maximum number of a list's stubs that are read one by one; the others are left out.
const STUBS: usize = 50;

impl Operation<'_> {
    pub(super) async fn get(&self, id: &GroupId) -> Result<Completed, EngineError> {
        let group = self.read_group(id).await?;
        let group = group
            .into_group()
            .ok_or_else(|| self.unreadable("no group"))?;
        Ok(Completed::unchanged(CommandResult::Group(Box::new(group))))
    }

    pub(super) async fn get_participants(&self, id: &GroupId) -> Result<Completed, EngineError> {
        let people = self.read_group(id).await?.people.unwrap_or_default();
        let people = people.into_iter().map(Person::into_participant);
        Ok(Completed::unchanged(CommandResult::Participants(
            people.collect(),
        )))
    }

    pub(super) async fn get_invite_code(&self, id: &GroupId) -> Result<Completed, EngineError> {
        let asked = ApiRequest::get(within(id, "/invite-code"));
        let code = match self.client.groups(self.caller, asked).await {
            Ok(body) => invite_code(&body),
            Err(failure) if matches!(failure.cause.whatsapp(), Some(401 | 403)) => None,
            Err(failure) => return Err(failure.into_engine_error()),
        };
        if let Some(code) = code {
            return Ok(Completed::unchanged(CommandResult::InviteCode(code)));
        }
        // WEBJS returns nothing if WhatsApp refuses.
        self.read_group(id).await?;
        Err(not_allowed("read the invite code"))
    }

    pub(super) async fn list(&self, asked: &ListGroups) -> Result<Completed, EngineError> {
        let mut listed = self.all_groups().await?;
        match asked.sort_by {
            SortBy::Id => listed.sort_by(|a, b| a.id.cmp(&b.id)),
            SortBy::Subject => listed.sort_by(|a, b| {
                let (one, other) = (a.subject.as_str(), b.subject.as_str());
                one.cmp(other).then_with(|| a.id.cmp(&b.id))
            }),
        }
        if asked.sort_order == SortOrder::Desc {
            listed.reverse();
        }
        let skipped = usize::try_from(asked.offset).unwrap_or(usize::MAX);
        let limit = asked.limit.and_then(|limit| usize::try_from(limit).ok());
        let page = listed
            .into_iter()
            .skip(skipped)
            .take(limit.unwrap_or(usize::MAX));
        let without_people = asked.exclude.contains(&Exclude::Participants);
        let page = page.map(|group| Group {
            participants: group.participants.filter(|_| !without_people),
            ..group
        });
        Ok(Completed::unchanged(CommandResult::Groups(page.collect())))
    }

    /// Counts the groups that [`Operation::list`] returns. WAHA's own count includes groups that the
    /// account is not in any more.
    pub(super) async fn count(&self) -> Result<Completed, EngineError> {
        let count = self.all_groups().await?.len();
        Ok(Completed::unchanged(CommandResult::Count(Count {
            count: u64::try_from(count).unwrap_or(u64::MAX),
        })))
    }

    /// Makes WAHA read the groups from WhatsApp again, and compares them with what is known.
    pub(super) async fn refresh(&self) -> Result<Completed, EngineError> {
        let (session, now) = (self.caller.session, self.state_store.now());
        self.reload_limit.count(session, now);
        let body = self.request_reload().await?;
        self.state_store.request_refresh(KnownKey {
            session: self.caller.session.clone(),
            group: None,
        });
        Ok(Completed::unchanged(CommandResult::Done(done(&body))))
    }

    /// All groups of which the account is a member.
    ///
    /// The whole list is requested: WAHA's engines page and sort in different ways, WEBJS lists groups
    /// that were left, and a group's size is unknown without its members.
    async fn all_groups(&self) -> Result<Vec<Group>, EngineError> {
        let snapshot = self.all_snapshots().await?;
        Ok(snapshot
            .into_iter()
            .filter_map(GroupSnapshot::into_group)
            .collect())
    }

    /// As [`Operation::all_groups`], in WAHA's form.
    pub(in crate::engines::waha) async fn all_snapshots(
        &self,
    ) -> Result<Vec<GroupSnapshot>, EngineError> {
        let listed = self.list_groups().await?;
        let (stubs, mut listed): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(GroupSnapshot::is_stub);
        for stub in stubs.into_iter().take(STUBS) {
            // A group that cannot be read by its id either is left out.
            if let Ok(snapshot) = self.read_group(&stub.id).await {
                listed.push(snapshot);
            }
        }
        let people = listed
            .iter_mut()
            .filter_map(|snapshot| snapshot.people.as_mut());
        let people = people.collect();
        self.phone_directory
            .resolve_all(self.client, self.caller, people)
            .await;
        listed.retain(|snapshot| !self.excludes_own_account(snapshot));
        Ok(listed)
    }

    pub(in crate::engines::waha) fn unreadable(&self, what: &'static str) -> EngineError {
        FailureCause::Unreadable(what).into_engine_error(Intent::Read, &self.caller.server.name)
    }
}
