//! Our own commands, written down before they are carried out, so that what WAHA tells of them is put
//! down to them.

use std::collections::BTreeSet;

use super::Book;
use crate::contract::{Command, CommandId, GroupId, ParticipantId, ParticipantInput, SessionName};
use crate::engines::waha::known::{Cause, Creation, Known, KnownSession, What};
use crate::store::Error;
use crate::store::known_groups::KnownKey;

impl Book {
    /// Writes down that a command is about to be carried out.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn expect(
        &self,
        session: &SessionName,
        id: &CommandId,
        command: &Command,
    ) -> Result<(), Error> {
        let at = self.now();
        let creation = match command {
            Command::CreateGroup(create) => Some(Creation {
                command: id.clone(),
                subject: create.name.clone(),
                at,
            }),
            _ => None,
        };
        let cause = what(command).map(|what| Cause {
            command: id.clone(),
            at,
            told: false,
            what,
        });
        let key = KnownKey {
            session: session.clone(),
            group: command.group().cloned(),
        };
        let id = id.clone();
        self.change(key, move |rows, key| {
            if let Some(creation) = &creation {
                let mut about: KnownSession = rows.get(key)?.unwrap_or_default();
                about.creations.retain(|it| it.command != id);
                about.creations.push(creation.clone());
                return rows.put(key, &about);
            }
            let Some(cause) = &cause else {
                return Ok(());
            };
            let mut known: Known = rows.get(key)?.unwrap_or_default();
            known.give_up(&id);
            known.expect(cause.clone());
            rows.put(key, &known)
        })
        .await
    }

    /// Writes down what else a command in a group is about to bring about.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn also_expect(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: &CommandId,
        what: What,
    ) -> Result<(), Error> {
        let cause = Cause {
            command: id.clone(),
            at: self.now(),
            told: false,
            what,
        };
        let key = KnownKey {
            session: session.clone(),
            group: Some(group.clone()),
        };
        self.change(key, move |rows, key| {
            let mut known: Known = rows.get(key)?.unwrap_or_default();
            known.expect(cause.clone());
            rows.put(key, &known)
        })
        .await
    }

    /// Writes down that a command came to nothing, or to nothing more than was told.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn give_up(
        &self,
        session: &SessionName,
        id: &CommandId,
        command: &Command,
    ) -> Result<(), Error> {
        let key = KnownKey {
            session: session.clone(),
            group: command.group().cloned(),
        };
        let id = id.clone();
        self.change(key, move |rows, key| {
            if key.group.is_none() {
                let mut about: KnownSession = rows.get(key)?.unwrap_or_default();
                about.creations.retain(|it| it.command != id);
                return rows.put(key, &about);
            }
            let mut known: Known = rows.get(key)?.unwrap_or_default();
            known.give_up(&id);
            rows.put(key, &known)
        })
        .await
    }
}

/// What a command is to bring about, where WAHA tells of that.
fn what(command: &Command) -> Option<What> {
    let people = |named: &[ParticipantInput]| -> BTreeSet<ParticipantId> {
        named.iter().map(|person| person.id.clone()).collect()
    };
    Some(match command {
        Command::AddParticipants(it) => What::Come(people(&it.participants)),
        Command::RemoveParticipants(it) => What::Go(people(&it.participants)),
        Command::PromoteAdmin(it) => What::Promote(people(&it.participants)),
        Command::DemoteAdmin(it) => What::Demote(people(&it.participants)),
        Command::LeaveGroup(_) | Command::DeleteGroup(_) => What::Leave,
        Command::SetGroupSubject(it) => What::Subject(it.subject.clone()),
        Command::SetGroupDescription(it) => What::Description(it.description.clone()),
        Command::SetInfoAdminOnly(it) => What::InfoAdminOnly(it.admins_only),
        Command::RevokeInviteCode(_) => What::Invite,
        Command::CreateGroup(_)
        | Command::ListGroups(_)
        | Command::GetGroup(_)
        | Command::GetInfoAdminOnly(_)
        | Command::GetParticipants(_)
        | Command::GetInviteCode(_)
        | Command::SetWebhook(_)
        | Command::RemoveWebhook(_)
        | Command::ListWebhooks(_)
        | Command::TestWebhook(_) => return None,
    })
}
