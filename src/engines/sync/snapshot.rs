//! A group as a source shows it at one time.

use serde::{Deserialize, Serialize};

use super::person::Person;
use crate::contract::{
    Description, Group, GroupId, GroupSettings, ParticipantId, Subject, Timestamp,
};
use crate::engines::setting::Setting;

/// A group as an answer shows it; engines omit fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines) struct GroupSnapshot {
    pub(in crate::engines) id: GroupId,
    pub(in crate::engines) subject: Option<Subject>,
    pub(in crate::engines) description: Option<Description>,
    pub(in crate::engines) owner: Option<ParticipantId>,
    pub(in crate::engines) created_at: Option<Timestamp>,
    pub(in crate::engines) info_admin_only: Option<bool>,
    pub(in crate::engines) messages_admin_only: Option<bool>,
    pub(in crate::engines) members_can_add: Option<bool>,
    pub(in crate::engines) approval_required: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engines) members_can_share_history: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engines) disappearing_seconds: Option<u32>,
    pub(in crate::engines) people: Option<Vec<Person>>,
    /// Entries of the list that could not be parsed.
    #[serde(default)]
    pub(in crate::engines) unread: usize,
    pub(in crate::engines) size: Option<u32>,
}

/// How reliable a list of members is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines) enum Completeness {
    /// Nothing indicates that somebody is missing.
    Complete,
    /// The listed people are members; others may be missing.
    Partial,
    /// It is empty, or lists more people than the group has.
    Unusable,
}

impl GroupSnapshot {
    /// A group of which only the id is known.
    pub(in crate::engines) const fn bare(id: GroupId) -> Self {
        Self {
            id,
            subject: None,
            description: None,
            owner: None,
            created_at: None,
            info_admin_only: None,
            messages_admin_only: None,
            members_can_add: None,
            approval_required: None,
            members_can_share_history: None,
            disappearing_seconds: None,
            people: None,
            unread: 0,
            size: None,
        }
    }

    /// Shows a setting.
    pub(in crate::engines) const fn set(&mut self, setting: Setting) {
        match setting {
            Setting::InfoAdminOnly(on) => self.info_admin_only = Some(on),
            Setting::MessagesAdminOnly(on) => self.messages_admin_only = Some(on),
            Setting::MembersCanAdd(on) => self.members_can_add = Some(on),
            Setting::ApprovalRequired(on) => self.approval_required = Some(on),
            Setting::MembersCanShareHistory(on) => self.members_can_share_history = Some(on),
            Setting::DisappearingSeconds(seconds) => self.disappearing_seconds = Some(seconds),
        }
    }

    /// A stub: GOWS lists groups that it has not loaded without their members (WAHA#1471). A group may
    /// have an empty subject.
    pub(in crate::engines) fn is_stub(&self) -> bool {
        self.people.as_ref().is_none_or(Vec::is_empty)
    }

    /// How reliable the list of members is, judged by the answer alone.
    pub(in crate::engines) fn extent(&self) -> Completeness {
        let listed = self.people.as_ref().map_or(0, Vec::len) + self.unread;
        // GOWS lists members together with a count of 0, which is not WhatsApp's.
        let size = self.size.filter(|size| *size > 0);
        let size = size.map_or(listed, |size| usize::try_from(size).unwrap_or(usize::MAX));
        if self.is_stub() || size < listed {
            Completeness::Unusable
        } else if size > listed || self.unread > 0 {
            Completeness::Partial
        } else {
            Completeness::Complete
        }
    }

    /// The contract's group. A missing setting that every engine shows has the value of a new group:
    /// open, without approval; those that some never show stay absent. A group without a name gets the
    /// number in its id.
    pub(in crate::engines) fn into_group(self) -> Option<Group> {
        let people = self.people.unwrap_or_default();
        let count = u32::try_from(people.len()).unwrap_or(u32::MAX);
        let owner = self.owner.map(|owner| {
            let known = people.iter().find(|person| person.is(&owner));
            known.map_or(owner, |person| person.id.clone())
        });
        Some(Group {
            subject: self.subject.or_else(|| number_as_subject(&self.id))?,
            id: self.id,
            description: self.description.unwrap_or_default(),
            owner,
            created_at: self.created_at,
            size: if count == 0 {
                self.size.unwrap_or_default()
            } else {
                count
            },
            settings: GroupSettings {
                info_admin_only: self.info_admin_only.unwrap_or_default(),
                messages_admin_only: self.messages_admin_only.unwrap_or_default(),
                members_can_add_new_member: self.members_can_add.unwrap_or(true),
                new_members_approval_required: self.approval_required.unwrap_or_default(),
                members_can_share_history: self.members_can_share_history,
                disappearing_seconds: self.disappearing_seconds,
            },
            participants: Some(people.into_iter().map(Person::into_participant).collect()),
            outcomes: None,
        })
    }
}

/// The subject of a group without a name: the number in its id.
pub(in crate::engines) fn number_as_subject(id: &GroupId) -> Option<Subject> {
    id.as_str().split(['@', '-']).next()?.parse().ok()
}
