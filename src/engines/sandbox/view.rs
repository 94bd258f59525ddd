//! A group in the contract's form.

use crate::contract::{Group, GroupId, JoinInfo, JoinRequest, Participant, ParticipantId};
use crate::engines::sandbox::{lids, settings};
use crate::store::sandbox_groups::SandboxGroup;

/// The group with its participants.
pub(super) fn group(id: &GroupId, state: &SandboxGroup) -> Group {
    Group {
        participants: Some(participants(state)),
        ..without_participants(id, state)
    }
}

/// The group without its participants; the size is included.
pub(super) fn without_participants(id: &GroupId, state: &SandboxGroup) -> Group {
    Group {
        id: id.clone(),
        subject: state.subject.clone(),
        description: state.description.clone(),
        owner: Some(state.owner.clone()),
        created_at: Some(state.created_at),
        size: u32::try_from(state.members.len()).unwrap_or(u32::MAX),
        settings: settings::with_defaults(state.settings),
        participants: None,
        outcomes: None,
    }
}

/// The participants of a group, in the order they joined.
pub(super) fn participants(state: &SandboxGroup) -> Vec<Participant> {
    let mut members: Vec<_> = state.members.iter().collect();
    members.sort_unstable_by_key(|(_, member)| member.number);
    members
        .into_iter()
        .map(|(id, member)| Participant::new(id.clone(), member.role, lids::lid_of(id)))
        .collect()
}

/// What the group's invite link shows.
pub(super) fn join_info(id: &GroupId, state: &SandboxGroup) -> JoinInfo {
    let group = without_participants(id, state);
    JoinInfo {
        id: group.id,
        subject: group.subject,
        description: group.description,
        owner: group.owner,
        created_at: group.created_at,
        size: Some(group.size),
        new_members_approval_required: Some(group.settings.new_members_approval_required),
    }
}

/// Who waits for an admin's approval, the earliest first.
pub(super) fn join_requests(state: &SandboxGroup) -> Vec<JoinRequest> {
    let mut waiting: Vec<_> = state.waiting.iter().collect();
    waiting.sort_by_key(|(_, waiting)| waiting.since);
    waiting
        .into_iter()
        .map(|(who, waiting)| JoinRequest {
            requester_id: who.clone(),
            requester_pn: phone(who),
            added_by_id: waiting.added_by.clone(),
            parent_group_id: None,
            request_method: Some(waiting.method),
            timestamp: Some(waiting.since.0.as_second()),
        })
        .collect()
}

/// The id itself, if it is a phone.
pub(super) fn phone(who: &ParticipantId) -> Option<ParticipantId> {
    who.as_str().ends_with("@c.us").then(|| who.clone())
}
