//! `ListGroups`: the result is written while the groups are read, and reading stops where the result becomes too
//! large to be sent.

use std::ops::ControlFlow;

use serde_json::value::RawValue;

use super::{refused, store_failed, unwritable, view};
use crate::contract::{CommandType, Exclude, Group, GroupId, ListGroups, ParticipantId};
use crate::engines::{Effect, EngineError, ResultLimit};
use crate::store::sandbox_groups::{SandboxGroup, SandboxGroups};

/// The groups of an account, as asked.
pub(super) async fn list(
    groups: &SandboxGroups,
    account: &ParticipantId,
    asked: &ListGroups,
    limit: ResultLimit,
) -> Result<Effect, EngineError> {
    let shown: fn(&GroupId, &SandboxGroup) -> Group =
        if asked.exclude.contains(&Exclude::Participants) {
            view::without_participants
        } else {
            view::group
        };
    let mut json = String::from("[");
    let mut failed = None;
    let read = groups.each_of_account(account, asked, |id, group| {
        if json.len() > 1 {
            json.push(',');
        }
        match serde_json::to_string(&shown(&id, &group)) {
            Ok(group) => json.push_str(&group),
            Err(error) => failed = Some(refused(unwritable(&error))),
        }
        // With the bracket that closes the list.
        if !limit.allows(json.len() + 1) {
            failed = Some(limit.refusal(CommandType::ListGroups));
        }
        match failed {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    });
    read.await.map_err(store_failed)?;
    if let Some(error) = failed {
        return Err(error);
    }
    json.push(']');
    let result = RawValue::from_string(json).map_err(|error| refused(unwritable(&error)))?;
    Ok(Effect {
        result,
        events: Vec::new(),
    })
}
