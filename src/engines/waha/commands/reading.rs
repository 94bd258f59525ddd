//! Commands that change nothing.

use super::{Done, Errand, not_allowed};
use crate::contract::{
    CommandResult, Exclude, Group, GroupId, InfoAdminOnly, ListGroups, SortBy, SortOrder,
};
use crate::engines::EngineError;
use crate::engines::waha::client::{Ask, within};
use crate::engines::waha::error::{Cause, Intent};
use crate::engines::waha::wire::{Person, Seen, admins_only, invite_code};

/// So many stubs of a list are asked for one by one; the others are left out.
const STUBS: usize = 50;

impl Errand<'_> {
    pub(super) async fn get(&self, id: &GroupId) -> Result<Done, EngineError> {
        let group = self.look(id).await?;
        let group = group
            .into_group()
            .ok_or_else(|| self.unreadable("no group"))?;
        Ok(Done::unchanged(CommandResult::Group(Box::new(group))))
    }

    pub(super) async fn get_participants(&self, id: &GroupId) -> Result<Done, EngineError> {
        let people = self.look(id).await?.people.unwrap_or_default();
        let people = people.into_iter().map(Person::into_participant);
        Ok(Done::unchanged(CommandResult::Participants(
            people.collect(),
        )))
    }

    pub(super) async fn get_info_admin_only(&self, id: &GroupId) -> Result<Done, EngineError> {
        let path = within(id, "/settings/security/info-admin-only");
        let ask = || self.client.groups(self.by, Ask::get(path.clone()));
        let body = match ask().await {
            Ok(body) => body,
            Err(trouble) => match trouble.cause.whatsapp() {
                Some(404) => {
                    // The look has had NOWEB's list made anew, where that was needed.
                    self.look(id).await?;
                    ask().await?
                }
                Some(401 | 403) => {
                    self.look(id).await?;
                    return Err(trouble.judge());
                }
                _ => return Err(trouble.judge()),
            },
        };
        let Some(admins_only) = admins_only(&body) else {
            self.look(id).await?;
            return Err(self.unreadable("no setting"));
        };
        let setting = InfoAdminOnly { admins_only };
        Ok(Done::unchanged(CommandResult::InfoAdminOnly(setting)))
    }

    pub(super) async fn get_invite_code(&self, id: &GroupId) -> Result<Done, EngineError> {
        let asked = Ask::get(within(id, "/invite-code"));
        let code = match self.client.groups(self.by, asked).await {
            Ok(body) => invite_code(&body),
            Err(trouble) if matches!(trouble.cause.whatsapp(), Some(401 | 403)) => None,
            Err(trouble) => return Err(trouble.judge()),
        };
        if let Some(code) = code {
            return Ok(Done::unchanged(CommandResult::InviteCode(code)));
        }
        // WEBJS says nothing where the server refuses.
        self.look(id).await?;
        Err(not_allowed("read the invite code"))
    }

    pub(super) async fn list(&self, asked: &ListGroups) -> Result<Done, EngineError> {
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
        Ok(Done::unchanged(CommandResult::Groups(page.collect())))
    }

    /// All groups that the account is in.
    ///
    /// Asked for whole: WAHA's engines page and sort each in their way, WEBJS lists groups that were
    /// left, and without the people nobody knows a group's size.
    async fn all_groups(&self) -> Result<Vec<Group>, EngineError> {
        let seen = self.all_seen().await?;
        Ok(seen.into_iter().filter_map(Seen::into_group).collect())
    }

    /// As [`Errand::all_groups`], as WAHA shows them.
    pub(in crate::engines::waha) async fn all_seen(&self) -> Result<Vec<Seen>, EngineError> {
        let listed = self.listed().await?;
        let (stubs, mut listed): (Vec<_>, Vec<_>) = listed.into_iter().partition(Seen::is_stub);
        for stub in stubs.into_iter().take(STUBS) {
            // One that cannot be read even by itself is no group that could be shown.
            if let Ok(seen) = self.look(&stub.id).await {
                listed.push(seen);
            }
        }
        let people = listed.iter_mut().filter_map(|seen| seen.people.as_mut());
        let people = people.collect();
        self.lids.resolve_all(self.client, self.by, people).await;
        listed.retain(|seen| !self.is_out_of(seen));
        Ok(listed)
    }

    pub(in crate::engines::waha) fn unreadable(&self, what: &'static str) -> EngineError {
        Cause::Unreadable(what).judge(Intent::Read, &self.by.server.name)
    }
}
