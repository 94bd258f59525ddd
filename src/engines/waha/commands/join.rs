//! Joining a group by its invite link.
//!
//! WAHA's answer to a join does not say whether the account is a member: GOWS answers with the group's id
//! also while an admin has to approve, NOWEB then without one. So the group is looked at. An account that
//! joined, and whose worker died before its answer, is a member when the command is repeated: that it was
//! outside before is recorded before the request is sent.

use std::time::Duration;

use serde_json::json;

use super::{Completed, Operation, is_outside};
use crate::contract::{
    CommandResult, GroupId, JoinCode, JoinGroup, JoinInfo, JoinOutcome, Joined, Subject,
};
use crate::engines::link_refusals::link_refusal;
use crate::engines::sync::{ExpectedChange, GroupSnapshot, Observation, is_phone};
use crate::engines::waha::client::{ApiFailure, ApiRequest};
use crate::engines::waha::error::FailureCause;
use crate::engines::waha::store_failed;
use crate::engines::waha::wire;
use crate::engines::{Call, Disposition, EngineError};
use crate::outbound::Method;

/// The delays before a group that does not show the account is looked at again: NOWEB's store learns of it
/// late.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// WAHA's answer to the request to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// With the group's id.
    Group,
    /// Without one, as NOWEB's while an admin has to approve.
    Nothing,
    /// WhatsApp says that the account is in the group.
    Member,
}

/// Whether the account is in the group.
enum Membership {
    /// WAHA shows the group with the account in it.
    Seen(Box<GroupSnapshot>),
    /// It is, though WAHA does not show it yet.
    Unseen,
    /// An admin has to approve.
    Pending,
}

impl Operation<'_> {
    pub(super) async fn get_join_info(&self, code: &JoinCode) -> Result<Completed, EngineError> {
        let group = self.fetch_link(code).await?;
        let listed = group.people.as_ref().map_or(0, Vec::len);
        let size = group.size.unwrap_or_default();
        let size = size.max(u32::try_from(listed).unwrap_or(u32::MAX));
        let owner = match &group.owner {
            Some(owner) if !is_phone(owner) => {
                let asked = self.phone_directory.phone(self.client, self.caller, owner);
                asked.await.or_else(|| group.owner.clone())
            }
            owner => owner.clone(),
        };
        Ok(Completed::unchanged(CommandResult::JoinInfo(Box::new(
            JoinInfo {
                id: group.id,
                subject: group.subject.unwrap_or_else(|| Subject::from_engine("")),
                description: group.description.unwrap_or_default(),
                owner,
                created_at: group.created_at,
                size: (size > 0).then_some(size),
                new_members_approval_required: group.approval_required,
            },
        ))))
    }

    pub(super) async fn join_group(
        &self,
        call: &Call,
        asked: &JoinGroup,
    ) -> Result<Completed, EngineError> {
        let link = self.fetch_link(&asked.code).await?;
        let joined = self.join_by_link(call, &asked.code, &link).await;
        if let Err(error) = &joined
            && error.disposition() == Disposition::Reject
        {
            // The command ends: a later join is not its effect.
            let (session, id) = (self.caller.session, Some(&link.id));
            let dropped = self.state_store.drop_pending(session, &call.id, id);
            dropped.await.map_err(store_failed)?;
        }
        joined
    }

    async fn join_by_link(
        &self,
        call: &Call,
        code: &JoinCode,
        link: &GroupSnapshot,
    ) -> Result<Completed, EngineError> {
        let (session, id) = (self.caller.session, &link.id);
        // Recorded by an attempt that was interrupted: the account was outside then.
        let began = self.state_store.is_pending(session, id, &call.id);
        let began = began.await.map_err(store_failed)?;
        let was_inside = self.was_inside(id).await?;
        if !was_inside || began {
            let change = ExpectedChange::OwnJoin;
            let expected = self.state_store.expect_also(session, id, &call.id, change);
            expected.await.map_err(store_failed)?;
        }
        let answer = self.ask_to_join(id, code).await?;
        let membership = match answer {
            Answer::Member => Membership::Unseen,
            _ if was_inside => Membership::Unseen,
            answer => self.find_membership(link, answer).await?,
        };
        let outcome = match (&membership, answer) {
            (Membership::Pending, _) => JoinOutcome::PendingApproval,
            (_, Answer::Member) if !began => JoinOutcome::AlreadyMember,
            _ if was_inside && !began => JoinOutcome::AlreadyMember,
            _ => JoinOutcome::Ok,
        };
        let observations = match membership {
            _ if outcome != JoinOutcome::Ok => Vec::new(),
            Membership::Seen(group) => vec![Observation::OwnJoined(group)],
            // The event waits for a list of the members.
            _ => vec![Observation::OwnJoined(Box::new(GroupSnapshot {
                people: None,
                size: None,
                ..link.clone()
            }))],
        };
        let joined = Joined {
            group_id: id.clone(),
            outcome,
        };
        Ok(Completed::changed(
            CommandResult::Joined(joined),
            id,
            observations,
        ))
    }

    /// What the link shows of its group.
    async fn fetch_link(&self, code: &JoinCode) -> Result<GroupSnapshot, EngineError> {
        let query = [("code", code.to_string())];
        let ask = ApiRequest {
            query: &query,
            ..ApiRequest::get("/join-info".to_owned())
        };
        let body = self.client.groups(self.caller, ask).await;
        let body = body.map_err(link_error)?;
        wire::group(body.json()).ok_or_else(|| self.unreadable("no group behind the link"))
    }

    async fn ask_to_join(&self, id: &GroupId, code: &JoinCode) -> Result<Answer, EngineError> {
        let body = Some(json!({ "code": code }));
        let ask = ApiRequest::change(Method::POST, "/join".to_owned(), body);
        match self.client.groups(self.caller, ask).await {
            Ok(body) if body.json().get("id").and_then(wire::id_text).is_some() => {
                Ok(Answer::Group)
            }
            Ok(_) => Ok(Answer::Nothing),
            Err(failure) => match failure.cause.whatsapp() {
                Some(304) => Ok(Answer::Member),
                // A conflict may have another reason.
                Some(409) if self.look(id).await?.is_some() => Ok(Answer::Member),
                _ => Err(link_error(failure)),
            },
        }
    }

    /// Whether the account was in the group before. A view that contradicts what was reported may be old.
    async fn was_inside(&self, id: &GroupId) -> Result<bool, EngineError> {
        if self.look(id).await?.is_none() {
            return Ok(false);
        }
        let known = self.state_store.is_inside(self.caller.session, id).await;
        Ok(known.map_err(store_failed)? != Some(false))
    }

    /// Whether the account is in the group after WAHA's answer.
    async fn find_membership(
        &self,
        link: &GroupSnapshot,
        answer: Answer,
    ) -> Result<Membership, EngineError> {
        let mut looks = LOOKS.iter();
        loop {
            if let Some(group) = self.look(&link.id).await? {
                return Ok(Membership::Seen(Box::new(group)));
            }
            match (link.approval_required, answer) {
                (Some(false), Answer::Group) => return Ok(Membership::Unseen),
                (Some(true), _) => return Ok(Membership::Pending),
                _ => {}
            }
            let Some(delay) = looks.next() else {
                return Ok(Membership::Pending);
            };
            tokio::time::sleep(*delay).await;
            self.reload_groups_limited().await;
        }
    }

    /// The group, if WAHA shows the account in it.
    async fn look(&self, id: &GroupId) -> Result<Option<GroupSnapshot>, EngineError> {
        let shown = match self.fetch_group(id).await {
            Ok(shown) => shown.filter(|group| !group.is_stub()),
            Err(error) if is_outside(&error) => None,
            Err(error) => return Err(error),
        };
        let Some(mut group) = shown.filter(|group| !self.excludes_own_account(group)) else {
            return Ok(None);
        };
        if let Some(people) = &mut group.people {
            self.phone_directory
                .resolve(self.client, self.caller, id, people)
                .await;
        }
        Ok(Some(group))
    }
}

/// The error of a request about a link.
fn link_error(mut failure: ApiFailure) -> EngineError {
    // An older WAHA takes the path for a group's.
    if failure.cause.is_of_a_list() {
        failure.cause = FailureCause::NotImplemented;
    }
    match failure.cause.whatsapp().and_then(link_refusal) {
        Some((code, message)) => EngineError::Refused {
            code,
            message: message.to_owned(),
        },
        None => failure.into_engine_error(),
    }
}
