//! What a command does in a group, or why it is refused; and the checks that the rules share.

use crate::contract::{
    CommandId, CommandResult, Description, ErrorBody, ErrorCode, JoinRequestAction, ParticipantId,
    PictureChange, RequestMethod, Role, Subject, Timestamp,
};
use crate::engines::setting::Setting;
use crate::store::ledger::Key;
use crate::store::sandbox_groups::SandboxGroup;

/// The maximum number of members: WhatsApp's public limit.
pub(super) const MOST_MEMBERS: usize = 1024;

/// The actor, the time and the command, with what was obtained for it.
#[derive(Debug, Clone)]
pub(super) struct Actor<'a> {
    /// The account that acts.
    pub(super) account: &'a ParticipantId,
    /// The time.
    pub(super) now: Timestamp,
    /// The command that events name.
    pub(super) command: &'a CommandId,
    /// The key of its effect; ids and codes are derived from it.
    pub(super) key: &'a Key,
    /// The digest of the picture that a `SetGroupPicture` names.
    pub(super) picture: Option<&'a str>,
}

/// A change in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The group was created with these people in it.
    Created { who: Vec<ParticipantId> },
    /// The actor added people.
    Added { who: Vec<ParticipantId> },
    /// The actor joined by the invite link.
    JoinedByLink,
    /// Somebody asked to join, or the actor decided about it.
    JoinRequest {
        who: ParticipantId,
        action: JoinRequestAction,
        method: RequestMethod,
    },
    /// The actor removed people.
    Removed { who: Vec<ParticipantId> },
    /// The actor left.
    Left,
    /// The actor made people admins.
    Promoted { who: Vec<ParticipantId> },
    /// Somebody became admin because the last admin had left.
    Succeeded { who: ParticipantId },
    /// The actor demoted people.
    Demoted { who: Vec<ParticipantId> },
    /// The subject changed.
    Subject(Subject),
    /// The description changed.
    Description(Description),
    /// A setting changed.
    Setting(Setting),
    /// The picture changed.
    Picture(PictureChange),
    /// The invite code changed.
    InviteCode(String),
    /// The actor, who had left before, deleted the group from their list. No session gets an event.
    Forgotten,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandEffect {
    pub(super) result: CommandResult,
    /// The changes, in order; empty if nothing changed.
    pub(super) changes: Vec<Change>,
}

/// Why a command was refused; the group is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
        }
    }

    /// There is no such group, or the account was never in it: the account cannot distinguish the two.
    pub(super) fn no_such_group() -> Self {
        Self::new(
            ErrorCode::GroupNotFound,
            "the session's account knows no such group; ListGroups returns the groups it is in",
        )
    }

    /// A command that changes something was handled as one that reads.
    pub(super) fn not_a_read() -> Self {
        Self::new(
            ErrorCode::Internal,
            "a command that changes something was handled as a read; report this",
        )
    }

    /// As the error of a reply.
    pub(super) fn body(self) -> ErrorBody {
        ErrorBody::new(self.code, self.message)
    }
}

impl CommandEffect {
    /// Done, with one change.
    pub(super) fn done(change: Change) -> Self {
        Self {
            result: CommandResult::Done(true),
            changes: vec![change],
        }
    }

    pub(super) fn unchanged(result: CommandResult) -> Self {
        Self {
            result,
            changes: Vec::new(),
        }
    }
}

/// The role of an account in a group, if it is a member.
pub(super) fn role_of(group: &SandboxGroup, account: &ParticipantId) -> Result<Role, Refusal> {
    if let Some(member) = group.members.get(account) {
        return Ok(member.role);
    }
    match group.former.get(account) {
        Some(former) if !former.deleted => Err(Refusal::new(
            ErrorCode::NotAMember,
            "the session's account is not in this group any more; an admin can add it again",
        )),
        _ => Err(Refusal::no_such_group()),
    }
}

/// Refuses anybody who is no admin.
pub(super) fn require_admin(role: Role, what: &str) -> Result<(), Refusal> {
    if is_admin(role) {
        return Ok(());
    }
    Err(Refusal {
        code: ErrorCode::NotAllowed,
        message: format!(
            "only an admin may {what}; promote the session's account, or use an admin's session"
        ),
    })
}

pub(super) const fn is_admin(role: Role) -> bool {
    matches!(role, Role::Admin | Role::Superadmin)
}
