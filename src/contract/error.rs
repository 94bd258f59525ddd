//! Why a command was not done: a closed list of codes, each with its cause and what to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The error of a reply whose status is `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// Sending the same command again, later, may succeed.
    pub retryable: bool,
    /// Every field that is wrong, at most 32 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ErrorDetail>,
}

impl ErrorBody {
    /// An error without details.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            retryable: code.retryable(),
            details: Vec::new(),
        }
    }

    /// The details, for people who read the message too: none where it says all of them.
    #[must_use]
    pub fn further_details(&self) -> &[ErrorDetail] {
        match self.details.as_slice() {
            [only] if self.message.contains(&only.reason) => &[],
            all => all,
        }
    }
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// Where, as a JSON pointer into the command: `/payload/participants/0/id`.
    pub path: String,
    /// What is wrong there, and what would be right.
    pub reason: String,
}

/// Declares the codes with their documentation in one place, so that the table in docs/errors.md, the
/// schema and the code cannot disagree.
macro_rules! error_codes {
    ($($name:ident = $code:literal, $retryable:literal, $cause:literal, $remedy:literal;)*) => {
        /// Everything that can be wrong with a command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $(
                #[doc = $cause]
                #[doc = ""]
                #[doc = $remedy]
                #[serde(rename = $code)]
                $name,
            )*
        }

        impl ErrorCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// Sending the same command again, later, may succeed.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable),* }
            }

            /// What brings this code about.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause),* }
            }

            /// What the caller should do.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

error_codes! {
    InvalidJson = "INVALID_JSON", false,
        "The body is not a JSON object in UTF-8.",
        "Send the command as one JSON object; check the encoding and the size.";
    UnknownCommand = "UNKNOWN_COMMAND", false,
        "The type is missing or names no command.",
        "Use one of the types of the contract, with its exact spelling.";
    InvalidPayload = "INVALID_PAYLOAD", false,
        "A field is missing, unknown, or has a wrong value; `details` names each.",
        "Correct every field that `details` names.";
    EnvelopeMismatch = "ENVELOPE_MISMATCH", false,
        "The body and the AMQP properties name different ids or types.",
        "Give id and type in one place, or the same in both.";
    SessionMismatch = "SESSION_MISMATCH", false,
        "The body names another session than the routing key.",
        "Publish with the session as the routing key.";
    MissingId = "MISSING_ID", false,
        "The command has no id, so a repetition could not be told from a second command.",
        "Set `id` in the body or the AMQP property `message_id`, and keep it when sending again.";
    IdReused = "ID_REUSED", false,
        "The id was used before for a command with another type or payload.",
        "Take a new id for a new command.";
    Expired = "EXPIRED", false,
        "`expiresAt` passed before the command could be executed.",
        "Send it again with a new id and a later `expiresAt`, if it is still wanted.";
    SessionNotFound = "SESSION_NOT_FOUND", false,
        "The engine knows no session of this name.",
        "Check the name, or create the session with the engine.";
    SessionNotReady = "SESSION_NOT_READY", true,
        "The session exists but is not connected to WhatsApp, or its account is restricted.",
        "Bring the session back, then send the command again.";
    GroupNotFound = "GROUP_NOT_FOUND", false,
        "There is no such group, or this account was never in it.",
        "Check the group id; `ListGroups` tells which groups there are.";
    WebhookNotFound = "WEBHOOK_NOT_FOUND", false,
        "The session has no webhook endpoint of this id.",
        "Check the id; `ListWebhooks` tells which endpoints there are.";
    NotAMember = "NOT_A_MEMBER", false,
        "The session's account is no longer in the group.",
        "Have an admin add the account again.";
    NotAllowed = "NOT_ALLOWED", false,
        "The session's account lacks the right, mostly that of an admin.",
        "Have an admin promote the account, or send the command from an admin's session.";
    NotSupported = "NOT_SUPPORTED", false,
        "The engine cannot do this.",
        "Use another engine for this command.";
    RateLimited = "RATE_LIMITED", true,
        "WhatsApp or the account's own limits forbid more of this for now.",
        "Send the command again later, more slowly.";
    EngineRejected = "ENGINE_REJECTED", false,
        "WhatsApp refused for a reason that has no code of its own; the message says which.",
        "Read the message; repeating the command unchanged will not help.";
    EngineUnavailable = "ENGINE_UNAVAILABLE", true,
        "The engine could not be reached, or failed, through all attempts.",
        "See that the engine is up, then send the command again.";
    InDoubt = "IN_DOUBT", false,
        "The worker died or lost its answer while the engine was at work, and cannot tell whether the command took effect.",
        "Look at the group, then decide; the command is kept on the dead-letter queue.";
    Internal = "INTERNAL", true,
        "groupmq itself failed; the log says how.",
        "Report it with the command id; the command is kept on the dead-letter queue.";
}
