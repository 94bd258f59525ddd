//! Whether a process still has the store that it opened, and the broker the id of that store.
//!
//! Each connection of a worker sees to the broker's part before anything is taken over it
//! (`amqp::Topology::of_store`). Here is what can change afterwards: files that are deleted or replaced, a
//! database that is emptied, an id that somebody replaced (`groupmq store adopt`). What cannot be
//! asked now is not another store; the store and the links tell of their outages themselves.

use std::time::Duration;

use crate::amqp::{self, Client, Names, Target};
use crate::store::{self, Store};

/// How often the files are looked at.
const FILES: Duration = Duration::from_secs(1);

/// Every how many looks at the files the id in the store is read, and the one on the broker.
const STORE: u32 = 10;
const BROKER: u32 = 30;

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store is another one than it was.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The broker has the id of another one.
    #[error(transparent)]
    Broker(#[from] amqp::Error),
}

/// Returns once the store is not the one that was opened any more, or, for a process that takes part in
/// commands, not the broker's.
pub async fn lost(store: Store, broker: Option<(Target, Names)>) -> Error {
    let mut looks = 0_u32;
    loop {
        tokio::time::sleep(FILES).await;
        looks = looks.wrapping_add(1);
        if let Err(error) = look(&store, broker.as_ref(), looks).await {
            return error;
        }
    }
}

async fn look(store: &Store, broker: Option<&(Target, Names)>, looks: u32) -> Result<(), Error> {
    let installation = store.installation();
    installation.check_files().await?;
    if looks.is_multiple_of(STORE)
        && let Err(error @ store::Error::Replaced(_)) = installation.check_id().await
    {
        return Err(error.into());
    }
    if looks.is_multiple_of(BROKER)
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
