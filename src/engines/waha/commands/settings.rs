//! Texts and settings of a group, and its invite link.

use serde_json::json;

use super::{Completed, Operation, not_allowed};
use crate::contract::{
    Command, CommandResult, CommandType, ErrorCode, GroupId, InfoAdminOnly, MemberAddMode,
    MemberShareHistory, MembershipApproval, MessagesAdminOnly, SetGroupDescription,
    SetGroupSubject,
};
use crate::engines::EngineError;
use crate::engines::setting::Setting;
use crate::engines::sync::GroupSnapshot;
use crate::engines::sync::Observation;
use crate::engines::waha::client::{ApiRequest, within};
use crate::engines::waha::error::{FailureCause, Intent};
use crate::engines::waha::wire::{Body, done, invite_code, switch};
use crate::outbound::Method;

/// A setting in WAHA: both requests have the same path and field.
struct Resource {
    get: CommandType,
    set: CommandType,
    path: &'static str,
    field: &'static str,
    result: fn(bool) -> CommandResult,
}

const RESOURCES: &[Resource] = &[
    Resource {
        get: CommandType::GetInfoAdminOnly,
        set: CommandType::SetInfoAdminOnly,
        path: "/settings/security/info-admin-only",
        field: "adminsOnly",
        result: |admins_only| CommandResult::InfoAdminOnly(InfoAdminOnly { admins_only }),
    },
    Resource {
        get: CommandType::GetMessagesAdminOnly,
        set: CommandType::SetMessagesAdminOnly,
        path: "/settings/security/messages-admin-only",
        field: "adminsOnly",
        result: |admins_only| CommandResult::MessagesAdminOnly(MessagesAdminOnly { admins_only }),
    },
    Resource {
        get: CommandType::GetMemberAddMode,
        set: CommandType::SetMemberAddMode,
        path: "/settings/security/member-add-mode",
        field: "membersCanAddNewMember",
        result: |on| {
            CommandResult::MemberAddMode(MemberAddMode {
                members_can_add_new_member: on,
            })
        },
    },
    Resource {
        get: CommandType::GetMembershipApproval,
        set: CommandType::SetMembershipApproval,
        path: "/settings/security/membership-approval",
        field: "newMembersApprovalRequired",
        result: |on| {
            CommandResult::MembershipApproval(MembershipApproval {
                new_members_approval_required: on,
            })
        },
    },
    Resource {
        get: CommandType::GetMemberShareHistory,
        set: CommandType::SetMemberShareHistory,
        path: "/settings/security/member-share-history-mode",
        field: "membersCanShareHistory",
        result: |on| {
            CommandResult::MemberShareHistory(MemberShareHistory {
                members_can_share_history: on,
            })
        },
    },
];

impl Resource {
    /// The setting that a command reads or changes; none if WAHA does not have it.
    fn of(command: CommandType) -> Option<&'static Self> {
        let is_it = |it: &&Self| it.get == command || it.set == command;
        RESOURCES.iter().find(is_it)
    }
}

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

    /// Executes a command that reads or changes a setting.
    pub(super) async fn setting(&self, command: &Command) -> Result<Completed, EngineError> {
        let resource = Resource::of(command.command_type());
        let (Some(id), Some(resource)) = (command.group(), resource) else {
            return Err(EngineError::Refused {
                code: ErrorCode::NotSupported,
                message: "WAHA has no request for this setting".to_owned(),
            });
        };
        match Setting::of(command) {
            None => self.get_setting(id, resource).await,
            Some(setting) => {
                let body = json!({ resource.field: setting.value() });
                let mut changed = GroupSnapshot::bare(id.clone());
                changed.set(setting);
                self.put(id, resource.path, body, changed).await
            }
        }
    }

    async fn get_setting(
        &self,
        id: &GroupId,
        resource: &Resource,
    ) -> Result<Completed, EngineError> {
        let path = within(id, resource.path);
        let ask = || {
            self.client
                .groups(self.caller, ApiRequest::get(path.clone()))
        };
        let body = match ask().await {
            Ok(body) => body,
            Err(failure) => match failure.cause.whatsapp() {
                Some(404) => {
                    // Reading the group has made NOWEB reload its list, if that was needed.
                    self.read_group(id).await?;
                    ask().await?
                }
                Some(401 | 403) => {
                    self.read_group(id).await?;
                    return Err(failure.into_engine_error());
                }
                _ => return Err(failure.into_engine_error()),
            },
        };
        // NOWEB's store keeps the settings of a group that the account has left.
        self.check_still_inside(id).await?;
        let Some(on) = switch(&body, resource.field) else {
            self.read_group(id).await?;
            return Err(self.unreadable("no setting"));
        };
        Ok(Completed::unchanged((resource.result)(on)))
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
