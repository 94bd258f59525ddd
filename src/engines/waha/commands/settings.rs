//! Texts and settings of a group, and its invite link.

use serde_json::json;

use super::{Completed, Operation, not_allowed};
use crate::contract::{
    CommandResult, ErrorCode, GroupId, SetGroupDescription, SetGroupSubject, SetInfoAdminOnly,
};
use crate::engines::EngineError;
use crate::engines::sync::GroupSnapshot;
use crate::engines::sync::Observation;
use crate::engines::waha::client::{ApiRequest, within};
use crate::engines::waha::error::{FailureCause, Intent};
use crate::engines::waha::wire::{Body, done, invite_code};
use crate::outbound::Method;

impl Operation<'_> {
    pub(super) async fn set_subject(
        &self,
        asked: &SetGroupSubject,
    ) -> Result<Completed, EngineError> {
        let id = &asked.group_id;
        let body = json!({ "subject": asked.subject });
        let changed = GroupSnapshot {
            subject: Some(asked.subject.clone()),
            ..GroupSnapshot::bare(id.clone())
        };
        self.put(id, "/subject", body, changed).await
    }

    pub(super) async fn set_description(
        &self,
        asked: &SetGroupDescription,
    ) -> Result<Completed, EngineError> {
        let id = &asked.group_id;
        let body = json!({ "description": asked.description });
        let changed = GroupSnapshot {
            description: Some(asked.description.clone()),
            ..GroupSnapshot::bare(id.clone())
        };
        let set = self.put(id, "/description", body, changed).await;
        // GOWS answers 400 to an empty or blank text.
        match set {
            Err(error)
                if error.code() == ErrorCode::EngineRejected
                    && asked.description.as_str().trim().is_empty() =>
            {
                Err(EngineError::Refused {
                    code: ErrorCode::NotSupported,
                    message: "WAHA's engine for this session cannot remove a description"
                        .to_owned(),
                })
            }
            set => set,
        }
    }

    pub(super) async fn set_info_admin_only(
        &self,
        asked: &SetInfoAdminOnly,
    ) -> Result<Completed, EngineError> {
        let id = &asked.group_id;
        let body = json!({ "adminsOnly": asked.admins_only });
        let changed = GroupSnapshot {
            info_admin_only: Some(asked.admins_only),
            ..GroupSnapshot::bare(id.clone())
        };
        self.put(id, "/settings/security/info-admin-only", body, changed)
            .await
    }

    /// Changes a text or setting; the result is `false` if the account lacks the right.
    async fn put(
        &self,
        id: &GroupId,
        what: &str,
        body: serde_json::Value,
        changed: GroupSnapshot,
    ) -> Result<Completed, EngineError> {
        let ask = ApiRequest::change(Method::PUT, within(id, what), Some(body));
        let observations = vec![Observation::Updated(Box::new(changed))];
        self.change_info(id, ask, observations).await
    }

    /// Sends a change; the result is `false` if the account lacks the right.
    pub(super) async fn change_info(
        &self,
        id: &GroupId,
        ask: ApiRequest<'_>,
        observations: Vec<Observation>,
    ) -> Result<Completed, EngineError> {
        let set = match self.client.groups(self.caller, ask).await {
            Ok(Body::Text(words)) if !matches!(words.trim(), "true" | "false") => {
                return Err(FailureCause::RefusalText(words)
                    .into_engine_error(Intent::Change, &self.caller.server.name));
            }
            Ok(body) => done(&body),
            Err(failure) if matches!(failure.cause.whatsapp(), Some(401 | 403)) => false,
            Err(failure) if failure.cause.whatsapp() == Some(404) => {
                self.read_group(id).await?;
                return Err(failure.into_engine_error());
            }
            Err(failure) => return Err(failure.into_engine_error()),
        };
        if set {
            return Ok(Completed::changed(
                CommandResult::Done(true),
                id,
                observations,
            ));
        }
        // The same answer is given for missing rights and for missing membership.
        self.read_group(id).await?;
        Ok(Completed::unchanged(CommandResult::Done(false)))
    }

    pub(super) async fn revoke_invite_code(&self, id: &GroupId) -> Result<Completed, EngineError> {
        let ask = ApiRequest::change(Method::POST, within(id, "/invite-code/revoke"), None);
        let code = match self.client.groups(self.caller, ask).await {
            Ok(body) => invite_code(&body),
            Err(failure) if matches!(failure.cause.whatsapp(), Some(401 | 403)) => None,
            Err(failure) => return Err(failure.into_engine_error()),
        };
        let Some(code) = code else {
            self.read_group(id).await?;
            return Err(not_allowed("revoke the invite code"));
        };
        // WAHA's event for this change is then a repetition.
        let observations = vec![Observation::InviteChanged(code.invite_url.clone())];
        Ok(Completed::changed(
            CommandResult::InviteCode(code),
            id,
            observations,
        ))
    }
}
