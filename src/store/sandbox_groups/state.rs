//! A group of the sandbox as it is kept: plain data, one JSON document.
//!
//! Documents outlive versions: a field added later needs a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::{
    Description, GroupSettings, ParticipantId, Role, SessionName, Subject, Timestamp,
};
use crate::store::Error;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxGroup {
    /// What it is called.
    pub subject: Subject,
    /// What it says about itself.
    pub description: Description,
    /// Who created it.
    pub owner: ParticipantId,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who may do what.
    pub settings: GroupSettings,
    /// The code of the invite link.
    pub invite_code: String,
    /// Who is in it; nobody, once the last one has left.
    pub members: BTreeMap<ParticipantId, Member>,
    /// Who was in it and is not now.
    pub former: BTreeMap<ParticipantId, Former>,
    /// How many people ever joined; numbers them in that order.
    pub joined: u64,
    /// How many events each session has seen of it.
    pub sequences: BTreeMap<SessionName, u64>,
    /// How many commands have changed it.
    pub changes: i64,
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// As what.
    pub role: Role,
    /// Whoever joined earlier has a smaller one.
    pub number: u64,
}

/// Somebody who was in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Since when not any more.
    pub since: Timestamp,
    /// They left of their own accord; else somebody removed them.
    pub left: bool,
    /// They deleted the group from their list.
    pub deleted: bool,
}

/// Reads a document.
pub(super) fn read(text: &str) -> Result<SandboxGroup, Error> {
    serde_json::from_str(text).map_err(|error| Error::corrupt("sandbox_groups", error))
}

/// Writes a document.
pub(super) fn write(state: &SandboxGroup) -> Result<String, Error> {
    serde_json::to_string(state).map_err(|error| Error::corrupt("sandbox_groups", error))
}
