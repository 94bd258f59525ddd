//! Checks before the load that workers answer, and that it does not fall on a real WhatsApp account.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::options::LoadOptions;
use crate::amqp::{CallError, Caller, Names};
use crate::cli::calls::{self, Answer};
use crate::cli::exit::Failure;
use crate::contract::{CommandType, EngineName, SessionName};

/// The longest wait for the first reply.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Sends one reading command for each session, and looks at the engine of its reply.
pub(super) async fn engines(
    caller: &mut Caller<'_>,
    names: &Names,
    options: &LoadOptions,
) -> Result<(), Failure> {
    let within = options.timeout.min(ANSWER_WITHIN);
    for session in &options.sessions {
        let id = Uuid::now_v7().to_string();
        let command = CommandType::CountGroups;
        let message = calls::command(names, session, command, id, json!({}));
        let reply = match caller.call(message, within).await {
            Err(CallError::NoReply(_)) => return Err(silence(session, names, within)),
            reply => Answer::read(reply?)?.reply,
        };
        engine(reply.engine, options.allow_real_accounts)?;
        if let Some(error) = reply.error {
            return Err(anyhow::anyhow!(
                "session {session} cannot be used: {}: {}",
                error.code.as_str(),
                error.message
            )
            .into());
        }
    }
    Ok(())
}

/// Refuses to put load on an engine that acts on real accounts, unless that is allowed.
pub(super) fn engine(engine: EngineName, allow_real_accounts: bool) -> Result<(), Failure> {
    if engine == EngineName::Sandbox || allow_real_accounts {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the engine is {}, so the session is a real WhatsApp account, which load may get restricted or banned. \
         Use a worker with engine.kind = \"sandbox\" and a prefix of its own; --allow-real-accounts allows it all the same",
        engine.as_str()
    )))
}

fn silence(session: &SessionName, names: &Names, within: Duration) -> Failure {
    Failure::NoWorker(format!(
        "no worker has answered for session {session} within {within:?}. Is one running with this broker and the \
         prefix {:?}, and does it do the commands before? `groupmq doctor` and its log show what it waits for",
        names.prefix()
    ))
}
