//! Comparing the broker's exchanges and queues with the description: they may have been declared with other
//! arguments.
//!
//! AMQP cannot query arguments, but the broker compares them whenever something that exists is declared. So
//! only what exists is declared, each on a separate channel, which a refusal closes.

use lapin::Connection;
use lapin::types::ShortString;

use crate::amqp::{Client, Error, Names};

use super::assertion::in_time;
use super::piece::{Piece, queue};
use super::{Topology, webhook_queue};

/// The result of comparing exchanges and queues.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Those that differ, with the broker's reply text (406).
    pub differing: Vec<String>,
    /// Those that could not be compared, since this user may not declare them (403).
    pub forbidden: Vec<String>,
}

impl Client {
    /// Compares the existing parts of a topology. It declares nothing new, unless a part is deleted between
    /// its two requests.
    ///
    /// # Errors
    /// When the broker is lost, or refuses for another reason than arguments or permissions.
    pub async fn compare(&self, topology: &Topology) -> Result<Comparison, Error> {
        compare(self.connection(), topology.all().cloned()).await
    }

    /// The same for the queues of webhook endpoints.
    ///
    /// # Errors
    /// As above.
    pub async fn compare_webhook_queues(
        &self,
        names: &Names,
        endpoints: impl Iterator<Item = &String>,
    ) -> Result<Comparison, Error> {
        let queues = endpoints.map(|it| queue(names.webhook(it), webhook_queue()));
        compare(self.connection(), queues).await
    }
}

async fn compare(
    connection: &Connection,
    pieces: impl Iterator<Item = Piece>,
) -> Result<Comparison, Error> {
    let mut comparison = Comparison::default();
    for piece in pieces.filter(|it| matches!(it, Piece::Exchange { .. } | Piece::Queue { .. })) {
        match in_time(compare_one(connection, &piece)).await {
            // Missing parts are reported elsewhere.
            Err(Error::Refused(refusal)) if refusal.code == 404 => {}
            Err(Error::Refused(refusal)) if refusal.code == 406 => {
                let differing = format!("{} ({})", piece.label(), refusal.text);
                comparison.differing.push(differing);
            }
            Err(Error::Refused(refusal)) if refusal.code == 403 => {
                comparison.forbidden.push(piece.label());
            }
            compared => compared?,
        }
    }
    Ok(comparison)
}

async fn compare_one(connection: &Connection, piece: &Piece) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    piece.ensure(&channel, true).await?;
    piece.ensure(&channel, false).await?;
    Ok(channel.close(200, ShortString::default()).await?)
}
