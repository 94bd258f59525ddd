//! Our own commands, as the source of observed changes: so an event carries its command's id, and a
//! change that was reported already is recognised when WAHA reports it again, however late.
//!
//! A pending command is stored before its request is sent. A change that is reported within two
//! minutes, of the same kind and about the same person or text, is attributed to that command. One
//! mistake is possible: somebody else makes the same change to the same person within that time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::member_index::PersonIds;
use crate::contract::{CommandId, Description, ParticipantId, Subject};
use crate::engines::setting::Setting;

/// How long changes are attributed to a command; WAHA's own retries take half a minute.
const RECENT: i64 = 120_000;

/// How long a join by the link is kept, unless its command has ended: when it is repeated after an
/// interruption, it is still known that the account was outside before. As long as the ledger keeps
/// commands by default. A join that others report is attributed to it for [`RECENT`] only.
const JOINING: i64 = 86_400_000;

/// A command of ours, with the change that it causes. The serialised names are those of the stored rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines) struct PendingCommand {
    pub(in crate::engines) command: CommandId,
    /// When it was started; milliseconds by our clock.
    pub(in crate::engines) at: i64,
    /// Its answer has been applied: a notification of the same change is a repetition.
    #[serde(rename = "told")]
    pub(in crate::engines) reported: bool,
    #[serde(rename = "what")]
    pub(in crate::engines) change: ExpectedChange,
}

/// The change that a command causes if it succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines) enum ExpectedChange {
    #[serde(rename = "Come")]
    MembersJoin(BTreeSet<ParticipantId>),
    #[serde(rename = "Go")]
    MembersLeave(BTreeSet<ParticipantId>),
    Promote(BTreeSet<ParticipantId>),
    Demote(BTreeSet<ParticipantId>),
    /// Requests to join are approved, so these people join.
    Approve(BTreeSet<ParticipantId>),
    /// Requests to join are rejected.
    Reject(BTreeSet<ParticipantId>),
    /// The account joins by the link.
    OwnJoin,
    #[serde(rename = "Leave")]
    OwnLeave,
    Subject(Subject),
    Description(Description),
    Invite,
    /// Stored as the setting itself: `{"InfoAdminOnly": true}`.
    #[serde(untagged)]
    Setting(Setting),
}

/// A change to one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberChange {
    Join,
    Leave,
    Promote,
    Demote,
}

/// Who made an observed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Provenance {
    /// No command that we know of.
    Unknown,
    /// This command, and the change was not reported before.
    Command(CommandId),
    /// A command, and the change was reported before.
    AlreadyReported,
}

impl ExpectedChange {
    fn people(&mut self, change: MemberChange) -> Option<&mut BTreeSet<ParticipantId>> {
        match (self, change) {
            (Self::MembersJoin(people) | Self::Approve(people), MemberChange::Join)
            | (Self::MembersLeave(people), MemberChange::Leave)
            | (Self::Promote(people), MemberChange::Promote)
            | (Self::Demote(people), MemberChange::Demote) => Some(people),
            _ => None,
        }
    }

    /// The people whom it changes; with `change`, only if it is that one.
    pub(super) fn named(
        &self,
        change: Option<MemberChange>,
    ) -> impl Iterator<Item = &ParticipantId> {
        let people = match (self, change) {
            (
                Self::MembersJoin(people) | Self::Approve(people),
                None | Some(MemberChange::Join),
            )
            | (Self::Reject(people), None)
            | (Self::MembersLeave(people), None | Some(MemberChange::Leave))
            | (Self::Promote(people), None | Some(MemberChange::Promote))
            | (Self::Demote(people), None | Some(MemberChange::Demote)) => Some(people),
            _ => None,
        };
        people.into_iter().flatten()
    }
}

pub(super) const fn is_recent(at: i64, now: i64) -> bool {
    now - at < RECENT
}

pub(super) fn drop_expired(commands: &mut Vec<PendingCommand>, now: i64) {
    commands.retain(|command| match command.change {
        ExpectedChange::OwnJoin => now - command.at < JOINING,
        _ => is_recent(command.at, now),
    });
}

/// The kind of source that reports a change; it limits the commands that may have made it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reporter<'a> {
    /// A notification: any command made the change, or it repeats an answer.
    Notification,
    /// A comparison. It never repeats an answer, since the state contains what was reported.
    Comparison,
    /// A command, which reports its own changes only.
    Command(&'a CommandId),
}

/// Attributes a change to a person to a command; the command no longer expects that change.
pub(super) fn attribute_member_change(
    commands: &mut [PendingCommand],
    by: Reporter<'_>,
    change: MemberChange,
    who: &PersonIds,
) -> Provenance {
    for command in commands.iter_mut().filter(|it| it.may_be_reported(by)) {
        let Some(people) = command.change.people(change) else {
            continue;
        };
        if let Some(named) = people.iter().find(|id| who.has(id)).cloned() {
            people.remove(&named);
            return command.provenance();
        }
    }
    Provenance::Unknown
}

/// Attributes a change of a text or setting, or the account's own leaving, to a command; also returns
/// what that command expected.
pub(super) fn attribute_change(
    commands: &mut Vec<PendingCommand>,
    by: Reporter<'_>,
    matches: impl Fn(&ExpectedChange) -> bool,
) -> (Provenance, Option<ExpectedChange>) {
    let fits = |it: &PendingCommand| it.may_be_reported(by) && matches(&it.change);
    match commands.iter().position(fits) {
        None => (Provenance::Unknown, None),
        Some(index) => {
            let command = commands.remove(index);
            (command.provenance(), Some(command.change))
        }
    }
}

impl PendingCommand {
    fn may_be_reported(&self, by: Reporter<'_>) -> bool {
        match by {
            Reporter::Notification => true,
            Reporter::Comparison => !self.reported,
            Reporter::Command(command) => !self.reported && self.command == *command,
        }
    }

    fn provenance(&self) -> Provenance {
        if self.reported {
            Provenance::AlreadyReported
        } else {
            Provenance::Command(self.command.clone())
        }
    }
}
