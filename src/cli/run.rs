//! `groupmq run`: the worker.

use crate::amqp;
use crate::app;
use crate::config::Config;
use crate::lifecycle::Ending;
use crate::observability;

use super::exit::{Exit, Failure};

pub(super) fn run(config: Config) -> Result<Exit, Failure> {
    observability::init(&config.log)
        .map_err(|error| Failure::Usage(format!("log.filter: {error}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    let ending = runtime.block_on(app::run(config));
    runtime.shutdown_background();
    // A refusal of the broker's has an exit code of its own, as with every other command.
    let ending = ending.map_err(|error| match error.downcast::<amqp::Error>() {
        Ok(error) => Failure::Broker(error),
        Err(error) => Failure::Other(error),
    })?;
    match ending {
        Ending::Drained => Ok(Exit::Ok),
        Ending::Abandoned => Ok(Exit::Abandoned),
        Ending::Failed(reason) => Err(Failure::Other(anyhow::Error::msg(reason))),
    }
}
