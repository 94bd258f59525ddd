//! `groupmq run`: runs the process.

use crate::amqp;
use crate::app;
use crate::config::Config;
use crate::lifecycle::Ending;
use crate::observability::log;
use crate::store;

use super::exit::{Exit, Failure};

pub(super) fn run(config: Config) -> Result<Exit, Failure> {
    let log = log::init(&config.log).map_err(|error| match error {
        log::Error::Filter(_) => Failure::Usage(error.to_string()),
        log::Error::Stderr(_) => Failure::Other(error.into()),
    })?;
    let runtime = app::runtime().map_err(|error| Failure::Other(error.into()))?;
    let ending = runtime.block_on(app::run(config, &log, app::engine));
    runtime.shutdown_background();
    log.finish();
    let ending = ending.map_err(failure)?;
    match ending {
        Ending::Drained => Ok(Exit::Ok),
        Ending::Abandoned => Ok(Exit::Abandoned),
        Ending::Failed(reason) => Err(Failure::Other(anyhow::Error::msg(reason))),
    }
}

/// A refusal by the broker and a replaced store have exit codes of their own.
fn failure(error: anyhow::Error) -> Failure {
    match error.downcast::<amqp::Error>() {
        Ok(error) => Failure::Broker(error),
        Err(error) => match error.downcast_ref() {
            Some(store::Error::Replaced(_)) => Failure::StoreReplaced(error),
            _ => Failure::Other(error),
        },
    }
}
