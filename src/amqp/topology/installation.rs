//! The id of the store with which the broker's commands were executed, kept on the broker.
//!
//! The id is the dead-letter routing key of a queue to which nothing is ever published. RabbitMQ compares
//! that argument whenever the queue is declared, so one request either puts the id there or fails because
//! another id is there, and of two stores that claim at once one succeeds. A message with the id would need
//! several requests, and would be lost with a purge or an expiry.
//!
//! Declaring needs the permission to configure this one queue, whatever `topology.mode` is.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection};

use crate::amqp::properties::short;
use crate::amqp::topology::{DEAD_LETTER_KEY, installation, is_there};
use crate::amqp::{Client, Error, Names, Refusal, Topology};

/// The number of characters of an id that are shown, enough for people to compare.
const SHOWN: usize = 8;

/// Puts the id of a store on the broker, or checks that it is there.
///
/// Runs on a separate channel, since a refusal closes the channel.
pub(in crate::amqp) async fn claim(
    connection: &Connection,
    names: &Names,
    store: &str,
) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    match declare(&channel, names, store).await {
        Ok(()) => Ok(channel.close(200, ShortString::default()).await?),
        Err(Error::Refused(refusal)) if refusal.code == 406 => Err(other(refusal, names, store)),
        Err(error) => Err(error),
    }
}

async fn declare(channel: &Channel, names: &Names, store: &str) -> Result<(), Error> {
    let arguments = installation(names, store);
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let queue = names.installation();
    channel
        .queue_declare(short(&queue), options, arguments)
        .await?;
    Ok(())
}

/// The error when the broker has the queue with other arguments.
fn other(refusal: Refusal, names: &Names, store: &str) -> Error {
    if !refusal.text.contains(DEAD_LETTER_KEY) {
        return Error::Refused(refusal);
    }
    Error::OtherStore {
        prefix: names.prefix().to_owned(),
        own: shown(store),
        found: found(&refusal.text).map_or_else(|| "unknown".to_owned(), shown),
    }
}

/// The id on the broker, from its reply text: `…received 'x' but current is 'y'`, and in RabbitMQ 4 `…but
/// current is the value 'y' of type 'longstr'`. The text may be truncated, since AMQP has room for 255
/// bytes.
fn found(words: &str) -> Option<&str> {
    let (_, current) = words.rsplit_once("but current is ")?;
    let (_, value) = current.split_once('\'')?;
    let end = value.find(|c: char| !c.is_ascii_hexdigit());
    let id = value.get(..end.unwrap_or(value.len()))?;
    (id.len() >= SHOWN).then_some(id)
}

fn shown(id: &str) -> String {
    id.chars().take(SHOWN).collect()
}

impl Topology {
    /// The same for a process with a store: the broker must carry that store's id, or none yet.
    #[must_use]
    pub fn of_store(mut self, id: &str) -> Self {
        self.store = Some(id.into());
        self
    }

    /// Checks that the broker carries the id of our store, if there is one, whatever the mode.
    pub(in crate::amqp) async fn claim(&self, connection: &Connection) -> Result<(), Error> {
        match &self.store {
            Some(store) => claim(connection, self.names(), store).await,
            None => Ok(()),
        }
    }
}

impl Client {
    /// Puts the id of a store on the broker, or checks that it is there.
    ///
    /// # Errors
    /// When another store's id is there, or the broker is lost or refuses.
    pub async fn claim(&self, names: &Names, store: &str) -> Result<(), Error> {
        claim(self.connection(), names, store).await
    }

    /// Whether the broker has the id of a store; changes nothing. False when it has none at all.
    ///
    /// # Errors
    /// When another store's id is there, or the broker is lost or refuses.
    pub async fn has_store(&self, names: &Names, store: &str) -> Result<bool, Error> {
        if !is_there(self.connection(), &names.installation()).await? {
            return Ok(false);
        }
        self.claim(names, store).await?;
        Ok(true)
    }

    /// Replaces any id on the broker by that of a store.
    ///
    /// # Errors
    /// When the broker is lost or refuses, or another store put its id there first.
    pub async fn adopt_store(&self, names: &Names, store: &str) -> Result<(), Error> {
        self.disown_store(names).await?;
        self.claim(names, store).await
    }

    /// Removes any id from the broker.
    pub(in crate::amqp) async fn disown_store(&self, names: &Names) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        let (queue, options) = (names.installation(), QueueDeleteOptions::default());
        channel.queue_delete(short(&queue), options).await?;
        Ok(channel.close(200, ShortString::default()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn words(queue: &str) -> [String; 2] {
        let begin = format!(
            "PRECONDITION_FAILED - inequivalent arg '{DEAD_LETTER_KEY}' for queue '{queue}' in vhost '/': received"
        );
        let (own, other) = (format!("'{OWN}'"), format!("'{OTHER}'"));
        [
            format!("{begin} {own} but current is {other}"),
            format!(
                "{begin} the value {own} of type 'longstr' but current is the value {other} of type 'longstr'"
            ),
        ]
        .map(|words| words.chars().take(252).collect())
    }

    fn refused(text: String) -> Error {
        let refusal = Refusal { code: 406, text };
        other(refusal, &Names::new("g"), OWN)
    }

    #[test]
    fn the_other_store_is_named_as_far_as_the_broker_names_it() {
        for words in words("groupmq.installation") {
            let named = refused(words).to_string();
            assert!(named.contains("01234567"), "{named}");
            assert!(named.contains("fedcba98"), "{named}");
        }
        for words in words(&"g".repeat(100)) {
            let cut = refused(words).to_string();
            assert!(cut.contains("unknown"), "{cut}");
        }
    }

    #[test]
    fn a_queue_of_another_kind_is_no_other_store() {
        let text =
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'g.installation'";
        assert!(matches!(refused(text.to_owned()), Error::Refused(_)));
    }
}
