//! The payloads about private ids (lids): which one and which phone are one person's.
//!
//! The commands are groupmq's own; the requests that they stand for are WAHA's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::ParticipantId;
use crate::contract::ids::{NamedLid, NamedPhone, lid, phone};
use crate::contract::whole;

/// How many pairs are returned if the command does not say: WAHA's own number.
pub const LIDS_SHOWN: u32 = 100;

/// Payload of `ListLids`: the pairs of private id and phone that the session knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListLids {
    /// At most so many pairs.
    #[serde(default = "lids_shown", deserialize_with = "whole::required")]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: u32,
    /// Skip so many pairs first.
    #[serde(default, deserialize_with = "whole::required")]
    #[schemars(range(max = 1_000_000))]
    pub offset: u32,
}

const fn lids_shown() -> u32 {
    LIDS_SHOWN
}

/// Payload of `CountLids`: how many pairs the session knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// Stated, so that the error about an unknown field can name it.
#[schemars(extend("properties" = {}))]
pub struct CountLids {}

/// Payload of `GetPhoneByLid`: the phone of a private id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetPhoneByLid {
    /// The private id.
    #[serde(deserialize_with = "lid")]
    #[schemars(with = "NamedLid")]
    pub lid: ParticipantId,
}

/// Payload of `GetLidByPhone`: the private id of a phone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetLidByPhone {
    /// The phone.
    #[serde(deserialize_with = "phone")]
    #[schemars(with = "NamedPhone")]
    pub phone: ParticipantId,
}

/// The two ids of one person; null where the session does not know one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LidPair {
    /// The private id.
    pub lid: Option<ParticipantId>,
    /// The phone.
    pub pn: Option<ParticipantId>,
}
