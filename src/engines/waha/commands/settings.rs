//! Texts and settings of a group, and its invite link.

use serde_json::json;

use super::{Done, Errand, not_allowed};
use crate::contract::{
    CommandResult, ErrorCode, GroupId, SetGroupDescription, SetGroupSubject, SetInfoAdminOnly,
};
use crate::engines::EngineError;
use crate::engines::waha::client::{Ask, within};
use crate::engines::waha::error::{Cause, Intent};
use crate::engines::waha::known::Claim;
use crate::engines::waha::wire::{Body, Seen, done, invite_code};
use crate::outbound::Method;

impl Errand<'_> {
    pub(super) async fn set_subject(&self, asked: &SetGroupSubject) -> Result<Done, EngineError> {
        let id = &asked.group_id;
        let body = json!({ "subject": asked.subject });
        let changed = Seen {
            subject: Some(asked.subject.clone()),
            ..Seen::bare(id.clone())
        };
        self.put(id, "/subject", body, changed).await
    }

    pub(super) async fn set_description(
        &self,
        asked: &SetGroupDescription,
    ) -> Result<Done, EngineError> {
        let id = &asked.group_id;
        let body = json!({ "description": asked.description });
        let changed = Seen {
            description: Some(asked.description.clone()),
            ..Seen::bare(id.clone())
        };
        let set = self.put(id, "/description", body, changed).await;
        // GOWS answers 400 to a text that is empty or blank.
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
    ) -> Result<Done, EngineError> {
        let id = &asked.group_id;
        let body = json!({ "adminsOnly": asked.admins_only });
        let changed = Seen {
            info_admin_only: Some(asked.admins_only),
            ..Seen::bare(id.clone())
        };
        self.put(id, "/settings/security/info-admin-only", body, changed)
            .await
    }

    /// Sets something; `false` where the account lacks the right.
    async fn put(
        &self,
        id: &GroupId,
        what: &str,
        body: serde_json::Value,
        changed: Seen,
    ) -> Result<Done, EngineError> {
        let ask = Ask::change(Method::PUT, within(id, what), Some(body));
        let set = match self.client.groups(self.by, ask).await {
            Ok(Body::Text(words)) if !matches!(words.trim(), "true" | "false") => {
                return Err(Cause::Words(words).judge(Intent::Change, &self.by.server.name));
            }
            Ok(body) => done(&body),
            Err(trouble) if matches!(trouble.cause.whatsapp(), Some(401 | 403)) => false,
            Err(trouble) if trouble.cause.whatsapp() == Some(404) => {
                self.look(id).await?;
                return Err(trouble.judge());
            }
            Err(trouble) => return Err(trouble.judge()),
        };
        if set {
            let claims = vec![Claim::Updated(Box::new(changed))];
            return Ok(Done::changed(CommandResult::Done(true), id, claims));
        }
        // The same answer stands for a lack of rights and for not being in the group.
        self.look(id).await?;
        Ok(Done::unchanged(CommandResult::Done(false)))
    }

    pub(super) async fn revoke_invite_code(&self, id: &GroupId) -> Result<Done, EngineError> {
        let ask = Ask::change(Method::POST, within(id, "/invite-code/revoke"), None);
        let code = match self.client.groups(self.by, ask).await {
            Ok(body) => invite_code(&body),
            Err(trouble) if matches!(trouble.cause.whatsapp(), Some(401 | 403)) => None,
            Err(trouble) => return Err(trouble.judge()),
        };
        let Some(code) = code else {
            self.look(id).await?;
            return Err(not_allowed("revoke the invite code"));
        };
        // The event that WAHA has of it is an echo then.
        let claims = vec![Claim::Invite(code.invite_url.clone())];
        Ok(Done::changed(CommandResult::InviteCode(code), id, claims))
    }
}
