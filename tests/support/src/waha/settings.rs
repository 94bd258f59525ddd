//! The settings of a group: a path for each, with one field (`FEATURES.md`, 1.1). What the captured data
//! does not have is as WAHA's sources of 2026.7 to 2026.9 have it: `session.noweb.core.ts`,
//! `session.gows.core.ts`, and the commit 0da9ef68 for who shares the history.

use serde_json::{Value, json};

use super::actions::{Outcome, Said};
use super::errors::no_route;
use super::model::{Change, Group};
use super::{Personality, Shared};

/// A setting.
struct Setting {
    name: &'static str,
    field: &'static str,
    /// Its field in Baileys' metadata, from which NOWEB reads it.
    noweb: Option<&'static str>,
    /// It came after the captured version.
    recent: bool,
    /// NOWEB and GOWS answer a change with `true`, and not with nothing.
    says_true: bool,
    change: Change,
    get: fn(&Group) -> bool,
    set: fn(&mut Group, bool),
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "info-admin-only",
        field: "adminsOnly",
        noweb: Some("restrict"),
        recent: false,
        says_true: false,
        change: Change::Locked,
        get: |group| group.locked,
        set: |group, on| group.locked = on,
    },
    Setting {
        name: "messages-admin-only",
        field: "adminsOnly",
        noweb: Some("announce"),
        recent: false,
        says_true: false,
        change: Change::Announce,
        get: |group| group.announce,
        set: |group, on| group.announce = on,
    },
    Setting {
        name: "member-add-mode",
        field: "membersCanAddNewMember",
        noweb: Some("memberAddMode"),
        recent: true,
        says_true: false,
        change: Change::MembersAdd,
        get: |group| group.members_add,
        set: |group, on| group.members_add = on,
    },
    Setting {
        name: "membership-approval",
        field: "newMembersApprovalRequired",
        noweb: Some("joinApprovalMode"),
        recent: true,
        says_true: true,
        change: Change::Approval,
        get: |group| group.approval,
        set: |group, on| group.approval = on,
    },
    Setting {
        name: "member-share-history-mode",
        field: "membersCanShareHistory",
        noweb: None,
        recent: true,
        says_true: true,
        change: Change::MembersShare,
        get: |group| group.members_share,
        set: |group, on| group.members_share = on,
    },
];

impl Shared {
    /// A setting's path; an older server does not have all of them.
    fn setting_of(&self, name: &str) -> Option<&'static Setting> {
        let recent = self.quirks().recent;
        let found = SETTINGS.iter().find(|it| it.name == name);
        found.filter(|it| recent || !it.recent)
    }

    /// None: there never was such a path.
    pub(super) fn setting(
        &self,
        name: &str,
        id: &str,
        session: &str,
        account: &str,
    ) -> Option<Outcome> {
        let Some(setting) = self.setting_of(name) else {
            return known(name).then(|| Err(no_route("GET", &path(session, id, name))));
        };
        Some(self.read_setting(setting, id, session, account))
    }

    fn read_setting(&self, setting: &Setting, id: &str, session: &str, account: &str) -> Outcome {
        if self.personality == Personality::Noweb
            && let Some(field) = setting.noweb
        {
            let group = self.noweb_group(id, session, account)?;
            return Ok(Said::Json(json!({ setting.field: group[field] })));
        }
        let seen = self.lock().seen_at(id, account);
        let seen = self.read(seen)?;
        Ok(Said::Json(
            json!({ setting.field: (setting.get)(&seen.group) }),
        ))
    }

    /// A missing field is taken for false, and even what does not change is told. None: there never was
    /// such a path.
    pub(super) fn set_setting(
        &self,
        name: &str,
        id: &str,
        session: &str,
        account: &str,
        body: &Value,
    ) -> Option<Outcome> {
        let Some(setting) = self.setting_of(name) else {
            return known(name).then(|| Err(no_route("PUT", &path(session, id, name))));
        };
        self.documented(body, &[(setting.field, Value::is_boolean)]);
        let on = body[setting.field] == true;
        let set = self.edit(id, account, setting.change.clone(), |group| {
            (setting.set)(group, on);
            Ok(true)
        });
        Some(match set {
            Ok(Said::Nothing) if setting.says_true => Ok(Said::Json(json!(true))),
            set => set,
        })
    }
}

/// Whether some version of WAHA has this setting.
fn known(name: &str) -> bool {
    SETTINGS.iter().any(|it| it.name == name)
}

fn path(session: &str, id: &str, name: &str) -> String {
    let id = id.replace('@', "%40");
    format!("/api/{session}/groups/{id}/settings/security/{name}")
}
