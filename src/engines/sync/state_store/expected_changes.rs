//! Stores our own commands before they are executed, so that WAHA's reports of their changes are
//! attributed to them.

use std::collections::BTreeSet;

use super::StateStore;
use crate::contract::{Command, CommandId, GroupId, ParticipantId, ParticipantInput, SessionName};
use crate::engines::setting::Setting;
use crate::engines::sync::{
    ExpectedChange, GroupState, PendingCommand, PendingCreation, SessionState,
};
use crate::store::Error;
use crate::store::known_groups::KnownKey;

impl StateStore {
    /// Records a command that is about to be executed.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn expect(
        &self,
        session: &SessionName,
        id: &CommandId,
        command: &Command,
    ) -> Result<(), Error> {
        let at = self.now();
        let creation = match command {
            Command::CreateGroup(create) => Some(PendingCreation {
                command: id.clone(),
                subject: create.name.clone(),
                at,
            }),
            _ => None,
        };
        let pending = expected_change(command).map(|change| PendingCommand {
            command: id.clone(),
            at,
            reported: false,
            change,
        });
        let key = KnownKey {
            session: session.clone(),
            group: command.group().cloned(),
        };
        let id = id.clone();
        self.update(key, move |rows, key| {
            if let Some(creation) = &creation {
                let mut about: SessionState = rows.get(key)?.unwrap_or_default();
                about.pending_creations.retain(|it| it.command != id);
                about.pending_creations.push(creation.clone());
                return rows.put(key, &about);
            }
            let Some(pending) = &pending else {
                return Ok(());
            };
            let mut known: GroupState = rows.get(key)?.unwrap_or_default();
            known.drop_pending(&id);
            known.expect(pending.clone());
            rows.put(key, &known)
        })
        .await
    }

    /// Records another change that a command is about to make.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn expect_also(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: &CommandId,
        change: ExpectedChange,
    ) -> Result<(), Error> {
        let pending = PendingCommand {
            command: id.clone(),
            at: self.now(),
            reported: false,
            change,
        };
        let key = KnownKey {
            session: session.clone(),
            group: Some(group.clone()),
        };
        self.update(key, move |rows, key| {
            let mut known: GroupState = rows.get(key)?.unwrap_or_default();
            known.expect(pending.clone());
            rows.put(key, &known)
        })
        .await
    }

    /// Records that a command makes no further changes.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn drop_pending(
        &self,
        session: &SessionName,
        id: &CommandId,
        group: Option<&GroupId>,
    ) -> Result<(), Error> {
        let key = KnownKey {
            session: session.clone(),
            group: group.cloned(),
        };
        let id = id.clone();
        self.update(key, move |rows, key| {
            if key.group.is_none() {
                let mut about: SessionState = rows.get(key)?.unwrap_or_default();
                about.pending_creations.retain(|it| it.command != id);
                return rows.put(key, &about);
            }
            let mut known: GroupState = rows.get(key)?.unwrap_or_default();
            known.drop_pending(&id);
            rows.put(key, &known)
        })
        .await
    }
}

/// The change that a command makes, if WAHA reports such changes.
fn expected_change(command: &Command) -> Option<ExpectedChange> {
    let people = |named: &[ParticipantInput]| -> BTreeSet<ParticipantId> {
        named.iter().map(|person| person.id.clone()).collect()
    };
    Some(match command {
        Command::AddParticipants(it) => ExpectedChange::MembersJoin(people(&it.participants)),
        Command::RemoveParticipants(it) => ExpectedChange::MembersLeave(people(&it.participants)),
        Command::PromoteAdmin(it) => ExpectedChange::Promote(people(&it.participants)),
        Command::DemoteAdmin(it) => ExpectedChange::Demote(people(&it.participants)),
        Command::LeaveGroup(_) | Command::DeleteGroup(_) => ExpectedChange::OwnLeave,
        Command::SetGroupSubject(it) => ExpectedChange::Subject(it.subject.clone()),
        Command::SetGroupDescription(it) => ExpectedChange::Description(it.description.clone()),
        Command::SetInfoAdminOnly(_)
        | Command::SetMessagesAdminOnly(_)
        | Command::SetMemberAddMode(_)
        | Command::SetMembershipApproval(_)
        | Command::SetMemberShareHistory(_)
        | Command::SetDisappearingMessages(_) => {
            return Setting::of(command).map(ExpectedChange::Setting);
        }
        Command::RevokeInviteCode(_) => ExpectedChange::Invite,
        Command::ApproveJoinRequests(it) => ExpectedChange::Approve(people(&it.participants)),
        Command::RejectJoinRequests(it) => ExpectedChange::Reject(people(&it.participants)),
        Command::CreateGroup(_)
        | Command::ListGroups(_)
        | Command::GetGroup(_)
        | Command::GetGroupPicture(_)
        | Command::SetGroupPicture(_)
        | Command::DeleteGroupPicture(_)
        | Command::CountGroups(_)
        | Command::RefreshGroups(_)
        | Command::GetInfoAdminOnly(_)
        | Command::GetMessagesAdminOnly(_)
        | Command::GetMemberAddMode(_)
        | Command::GetMembershipApproval(_)
        | Command::GetMemberShareHistory(_)
        | Command::GetParticipants(_)
        | Command::GetInviteCode(_)
        | Command::GetJoinInfo(_)
        // Once its group is known, the join is expected.
        | Command::JoinGroup(_)
        | Command::ListJoinRequests(_)
        | Command::EnsureGroup(_)
        | Command::ListLids(_)
        | Command::CountLids(_)
        | Command::GetPhoneByLid(_)
        | Command::GetLidByPhone(_)
        | Command::SetWebhook(_)
        | Command::RemoveWebhook(_)
        | Command::ListWebhooks(_)
        | Command::TestWebhook(_) => return None,
    })
}
