//! A group of the sandbox as it is kept: plain data, one JSON document.
//!
//! Documents outlive versions: a field added later needs a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::{
    Description, GroupSettings, ParticipantId, RequestMethod, Role, SessionName, Subject, Timestamp,
};
use crate::store::Error;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxGroup {
    /// The subject.
    pub subject: Subject,
    /// The description.
    pub description: Description,
    /// Who created it.
    pub owner: ParticipantId,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who may do what.
    pub settings: GroupSettings,
    /// The code of the invite link.
    pub invite_code: String,
    /// The row of the code is written. An older release, during an update, writes neither.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub code_listed: bool,
    /// The digest of the picture, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// The members; none after the last one has left.
    pub members: BTreeMap<ParticipantId, Member>,
    /// The former members.
    pub former: BTreeMap<ParticipantId, Former>,
    /// Who waits for an admin's approval.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<ParticipantId, Waiting>,
    /// How many people ever joined; numbers them in that order.
    pub joined: u64,
    /// How many events each session has seen of it.
    pub sequences: BTreeMap<SessionName, u64>,
    /// How many commands have changed it.
    pub changes: i64,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Their role.
    pub role: Role,
    /// Increases with the order of joining.
    pub number: u64,
}

/// A former member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// When they ceased to be a member.
    pub since: Timestamp,
    /// True if they left, false if they were removed.
    pub left: bool,
    /// They deleted the group from their list.
    pub deleted: bool,
}

/// Somebody who waits for an admin's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Since when.
    pub since: Timestamp,
    /// How they came to ask.
    pub method: RequestMethod,
    /// The member who wanted to add them, where one did.
    pub added_by: Option<ParticipantId>,
}

/// Reads a document.
pub(super) fn read(text: &str) -> Result<SandboxGroup, Error> {
    serde_json::from_str(text).map_err(|error| Error::corrupt("sandbox_groups", error))
}

/// Writes a document.
pub(super) fn write(state: &SandboxGroup) -> Result<String, Error> {
    serde_json::to_string(state).map_err(|error| Error::corrupt("sandbox_groups", error))
}
