//! How large a result may be: its reply has to fit into one message of the broker.

use super::EngineError;
use crate::contract::CommandType;

/// The maximum size of a reply without its result.
const FRAME: usize = 64 << 10;

/// The limit of results, from that of messages.
///
/// Nothing else can be too large: an event concerns one group, and an error is short.
#[derive(Debug, Clone, Copy)]
pub struct ResultLimit {
    message_max: usize,
}

impl ResultLimit {
    /// For messages of at most so many bytes (`amqp.message_max`).
    #[must_use]
    pub const fn of_messages(message_max: usize) -> Self {
        Self { message_max }
    }

    /// Whether a result of so many bytes fits.
    #[must_use]
    pub const fn allows(self, bytes: usize) -> bool {
        bytes <= self.message_max.saturating_sub(FRAME)
    }

    /// The answer to a command whose result does not fit, which suggests a smaller request.
    #[must_use]
    pub fn refusal(self, command: CommandType) -> EngineError {
        let (path, less) = match command {
            CommandType::ListGroups => (
                "/payload/limit",
                "give a limit, or a smaller one, with an offset, or exclude the participants",
            ),
            _ => ("/payload", "ask for less"),
        };
        let most = self.message_max;
        EngineError::InvalidField {
            path,
            reason: format!(
                "asks for more than a message may hold (amqp.message_max, {most} bytes); {less}"
            ),
        }
    }
}
