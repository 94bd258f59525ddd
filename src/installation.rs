//! Checks that a process still has the store that it opened, and that the broker has the id of that store.
//!
//! Each connection of a worker checks the broker's id before it consumes (`amqp::Topology::of_store`). This
//! module checks what can change afterwards: files that are deleted or replaced, a database that is
//! emptied, an id that was replaced (`groupmq store adopt`). A store or broker that cannot be queried now
//! is not another store; the store and the connections report their outages themselves.

use std::time::Duration;

use crate::amqp::{self, Client, Names, Target};
use crate::store::{self, Store};

/// The interval of checking the files.
const FILES: Duration = Duration::from_secs(1);

/// The id in the store is read with every tenth check of the files, and the broker's with every thirtieth.
const STORE: u32 = 10;
const BROKER: u32 = 30;

/// Why the process cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store was replaced.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The broker has the id of another store.
    #[error(transparent)]
    Broker(#[from] amqp::Error),
}

/// Returns once the opened store was replaced or, for a process that takes part in commands, is not the
/// broker's.
pub async fn lost(store: Store, broker: Option<(Target, Names)>) -> Error {
    let mut checks = 0_u32;
    loop {
        tokio::time::sleep(FILES).await;
        checks = checks.wrapping_add(1);
        if let Err(error) = check(&store, broker.as_ref(), checks).await {
            return error;
        }
    }
}

async fn check(store: &Store, broker: Option<&(Target, Names)>, checks: u32) -> Result<(), Error> {
    let installation = store.installation();
    installation.check_files().await?;
    if checks.is_multiple_of(STORE)
        && let Err(error @ store::Error::Replaced(_)) = installation.check_id().await
    {
        return Err(error.into());
    }
    if checks.is_multiple_of(BROKER)
        && let Some((target, names)) = broker
        && let Err(error @ amqp::Error::OtherStore { .. }) =
            claim(target, names, installation.id()).await
    {
        return Err(error.into());
    }
    Ok(())
}

async fn claim(target: &Target, names: &Names, store: &str) -> Result<(), amqp::Error> {
    let client = Client::connect(target).await?;
    let claimed = client.claim(names, store).await;
    client.close().await;
    claimed
}
