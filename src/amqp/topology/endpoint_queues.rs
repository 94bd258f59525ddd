//! The queues of webhook endpoints: declared, bound, unbound and deleted at run time.
//!
//! `fanout` decides which routing keys belong to an endpoint. Every request here may be repeated.

use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use crate::amqp::properties::short;
use crate::amqp::topology::{is_there, standing, webhook_queue};
use crate::amqp::{Client, Error, Names};

impl Client {
    /// Declares the queue of an endpoint, to which its retries return.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn make_webhook_queue(&self, names: &Names, endpoint: &str) -> Result<(), Error> {
        let queue = names.webhook(endpoint);
        let channel = self.separate_channel().await?;
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        channel
            .queue_declare(short(&queue), options, webhook_queue())
            .await?;
        channel
            .queue_bind(
                short(&queue),
                short(&names.back()),
                short(&Names::back_to_webhook(endpoint)),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(())
    }

    /// Whether the endpoint has a queue.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn has_webhook_queue(&self, names: &Names, endpoint: &str) -> Result<bool, Error> {
        is_there(self.connection(), &names.webhook(endpoint)).await
    }

    /// Binds the endpoint's queue to events with these routing keys.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn bind_webhook<'a>(
        &self,
        names: &Names,
        endpoint: &str,
        keys: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        for key in keys {
            channel
                .queue_bind(
                    short(&names.webhook(endpoint)),
                    short(&names.events()),
                    short(key),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(())
    }

    /// Removes these bindings of the endpoint's queue.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn unbind_webhook<'a>(
        &self,
        names: &Names,
        endpoint: &str,
        keys: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        for key in keys {
            channel
                .queue_unbind(
                    short(&names.webhook(endpoint)),
                    short(&names.events()),
                    short(key),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(())
    }

    /// Deletes the endpoint's queue with its messages.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn delete_webhook_queue(&self, names: &Names, endpoint: &str) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        let options = QueueDeleteOptions::default();
        channel
            .queue_delete(short(&names.webhook(endpoint)), options)
            .await?;
        Ok(())
    }

    /// Whether the endpoint's queue has neither messages nor consumers; true without a queue.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn is_webhook_queue_drained(
        &self,
        names: &Names,
        endpoint: &str,
    ) -> Result<bool, Error> {
        let queue = names.webhook(endpoint);
        let channel = self.separate_channel().await?;
        // Both with one request: messages that a consumer has taken are not counted as ready.
        match standing(&channel, &queue).await {
            Ok(found) if found.message_count() == 0 && found.consumer_count() == 0 => {}
            Ok(_) => return Ok(false),
            Err(Error::Refused(refusal)) if refusal.code == 404 => return Ok(true),
            Err(error) => return Err(error),
        }
        // Fetches a message as well: quorum queues report their length late, and without a leader report
        // zero. The message is requeued when the channel closes.
        let options = BasicGetOptions { no_ack: false };
        let got = channel.basic_get(short(&queue), options).await?;
        channel
            .close(200, lapin::types::ShortString::default())
            .await?;
        Ok(got.is_none())
    }
}
