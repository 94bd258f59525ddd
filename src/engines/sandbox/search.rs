//! Searches for the group that a `CreateGroup` with unknown outcome may have created: what an engine
//! can do that does not know our command ids.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::contract::{
    CommandResult, CreateGroup, GroupId, Outcome, OutcomeKind, ParticipantId, Timestamp,
};
use crate::engines::{Effect, EngineError, Found};
use crate::store::sandbox_groups::SandboxGroup;

use super::view;

/// The maximum lag of the engine's clock behind ours.
const SKEW: Duration = Duration::from_secs(5);

/// Finds the one group of this account that matches the command and is not older than it.
pub(super) fn created(
    groups: &[(GroupId, SandboxGroup)],
    account: &ParticipantId,
    wanted: &CreateGroup,
    since: Timestamp,
) -> Result<Found, EngineError> {
    let since = since.0.checked_sub(SKEW).unwrap_or(since.0);
    let people: BTreeSet<_> = wanted.participants.iter().map(|it| &it.id).collect();
    let looks_like_it = |(_, group): &&(GroupId, SandboxGroup)| {
        group.owner == *account
            && group.subject == wanted.name
            && group.created_at.0 >= since
            && group
                .members
                .keys()
                .all(|member| member == account || people.contains(member))
    };
    let mut found = groups.iter().filter(looks_like_it);
    Ok(match (found.next(), found.next()) {
        (None, _) => Found::Nothing,
        (Some((id, group)), None) => {
            let outcomes = people.iter().map(|person| outcome(group, person)).collect();
            let mut result = view::group(id, group);
            result.outcomes = Some(outcomes);
            // The events were published when the group was created.
            let result = CommandResult::Group(Box::new(result));
            Found::Effect(Effect::new(&result, Vec::new())?)
        }
        (Some(_), Some(_)) => Found::Unclear,
    })
}

/// Members were added; the reason why the others are missing is lost.
fn outcome(group: &SandboxGroup, person: &ParticipantId) -> Outcome {
    let (outcome, code) = if group.members.contains_key(person) {
        (OutcomeKind::Ok, 200)
    } else {
        (OutcomeKind::Unknown, 400)
    };
    Outcome {
        id: person.clone(),
        outcome,
        code,
        invite: None,
    }
}
