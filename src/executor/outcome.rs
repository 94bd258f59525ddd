//! The outcome of a message: a reply, events, and whether the message becomes a dead letter.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::contract::{
    CommandId, CommandType, EngineName, ErrorBody, ErrorCode, Event, Reply, ReplyStatus,
    SessionName, Timestamp, WebhookNotice,
};
use crate::engines::ResultLimit;

use super::deferral::error_body;
use super::{Accepted, Rejected};

/// The namespace of reply ids (UUIDv5).
const REPLIES: Uuid = Uuid::from_u128(0x9f1d_2c1e_6c1b_5d0e_8a55_0b6f_2f5c_41d7);

/// The outcome of a message.
#[derive(Debug, Clone)]
pub struct CommandOutcome {
    /// The reply.
    pub reply: Reply,
    /// The resulting events, in order.
    pub events: Vec<Event>,
    /// An event for one webhook endpoint only.
    pub test: Option<WebhookNotice>,
}

impl CommandOutcome {
    /// Why the message is kept as a dead letter, if it is.
    ///
    /// Refusals by WhatsApp are only answered; commands that could not be executed are kept.
    #[must_use]
    pub fn dead(&self) -> Option<&ErrorBody> {
        self.reply
            .error
            .as_ref()
            .filter(|error| is_kept(error.code))
    }
}

const fn is_kept(code: ErrorCode) -> bool {
    match code {
        ErrorCode::GroupNotFound
        | ErrorCode::WebhookNotFound
        | ErrorCode::NotAMember
        | ErrorCode::NotAllowed
        | ErrorCode::NotSupported
        | ErrorCode::EngineRejected => false,
        ErrorCode::InvalidJson
        | ErrorCode::UnknownCommand
        | ErrorCode::InvalidPayload
        | ErrorCode::EnvelopeMismatch
        | ErrorCode::SessionMismatch
        | ErrorCode::MissingId
        | ErrorCode::IdReused
        | ErrorCode::Expired
        | ErrorCode::SessionNotFound
        | ErrorCode::SessionNotReady
        | ErrorCode::RateLimited
        | ErrorCode::EngineUnavailable
        | ErrorCode::InDoubt
        | ErrorCode::Internal => true,
    }
}

/// A result that fits into a message, or an error that suggests a smaller request.
pub(super) fn fitting(
    result: Box<RawValue>,
    command: CommandType,
    limit: ResultLimit,
) -> Result<Box<RawValue>, ErrorBody> {
    if limit.allows(result.get().len()) {
        Ok(result)
    } else {
        Err(error_body(&limit.refusal(command)))
    }
}

/// The command that an outcome belongs to, as far as it could be decoded.
#[derive(Debug)]
pub struct CommandIdentity {
    /// The input for reply ids: session and command id, and the body if those are unreliable.
    identity: String,
    command_id: Option<CommandId>,
    command_type: Option<String>,
    session: Option<SessionName>,
}

impl CommandIdentity {
    /// A decoded command.
    #[must_use]
    pub fn accepted(accepted: &Accepted) -> Self {
        Self {
            identity: format!("{}\n{}", accepted.session, accepted.id),
            command_id: Some(accepted.id.clone()),
            command_type: Some(accepted.command.command_type().as_str().to_owned()),
            session: Some(accepted.session.clone()),
        }
    }

    /// A message that is not a valid command.
    ///
    /// Its replies are distinguished by the body: a producer may correct it and keep the id.
    #[must_use]
    pub fn rejected(rejected: &Rejected, body: &[u8]) -> Self {
        Self {
            identity: format!("{:x}", Sha256::digest(body)),
            command_id: rejected.command_id.clone(),
            command_type: rejected.command_type.clone(),
            session: rejected.session.clone(),
        }
    }

    /// The same for every repetition of one answer, so that consumers can drop duplicates; another one for
    /// another error, since a command that failed may be sent again and succeed.
    fn reply_id(&self, error: Option<&ErrorBody>) -> Uuid {
        let code = error.map_or("", |error| error.code.as_str());
        Uuid::new_v5(&REPLIES, format!("{}\n{code}", self.identity).as_bytes())
    }

    /// The outcome of a command that the engine answered.
    #[must_use]
    pub fn done(
        &self,
        outcome: Result<Box<RawValue>, ErrorBody>,
        events: Vec<Event>,
        replayed: bool,
        engine: EngineName,
        at: Timestamp,
    ) -> CommandOutcome {
        let (status, result, error) = match outcome {
            Ok(result) => (ReplyStatus::Ok, Some(result), None),
            Err(error) => (ReplyStatus::Error, None, Some(error)),
        };
        let reply = Reply {
            id: self.reply_id(error.as_ref()),
            command_id: self.command_id.clone(),
            command_type: self.command_type.clone(),
            session: self.session.clone(),
            engine,
            status,
            result,
            error,
            replayed,
            timestamp: at,
        };
        CommandOutcome {
            reply,
            events,
            test: None,
        }
    }

    /// The outcome of a command that was not executed.
    #[must_use]
    pub fn refused(&self, error: ErrorBody, engine: EngineName, at: Timestamp) -> CommandOutcome {
        self.done(Err(error), Vec::new(), false, engine, at)
    }
}
