//! A group in the contract's form.

use crate::contract::{Group, GroupId, Participant};
use crate::engines::sandbox::lids;
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
        settings: state.settings,
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
