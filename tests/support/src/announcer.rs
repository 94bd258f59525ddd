//! Publishes events to the exchange of events, as a worker does: confirmed, and again, with the same id,
//! when the broker went away before it had confirmed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection};
use uuid::Uuid;

use crate::producer::connect;

/// Published and not confirmed, at most.
const WINDOW: usize = 200;
/// How long to wait before connecting again.
const REST: Duration = Duration::from_millis(200);
/// Without any progress for so long, it is over.
const PATIENCE: Duration = Duration::from_mins(1);

/// An event on its way.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// Its id.
    pub id: String,
    /// `<session>.<event>`
    pub key: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Announcement {
    /// Something that looks like `group.join`.
    #[must_use]
    pub fn new(session: &str, event: &str, number: usize) -> Self {
        let id = Uuid::new_v4().to_string();
        let body = format!(
            r#"{{"id":"{id}","timestamp":1795441150145,"event":"{event}","session":"{session}","engine":"SANDBOX","payload":{{"id":"{number}","timestamp":1795441150,"chatId":"120363000000000001@g.us","author":null,"type":"add","body":"","recipientIds":["15550000002@c.us"],"sequence":{number}}}}}"#
        );
        Self {
            id,
            key: format!("{session}.{event}"),
            body: body.into_bytes(),
        }
    }
}

/// Publishes.
#[derive(Debug)]
pub struct Announcer {
    url: String,
    exchange: String,
    link: Option<(Connection, Channel)>,
}

impl Announcer {
    /// Publishes to the topology of this prefix.
    #[must_use]
    pub fn new(url: &str, prefix: &str) -> Self {
        Self {
            url: url.to_owned(),
            exchange: format!("{prefix}.events"),
            link: None,
        }
    }

    /// Publishes so many events of one kind, and returns them.
    ///
    /// # Errors
    /// When the broker does not take them.
    pub async fn announce(
        &mut self,
        session: &str,
        event: &str,
        count: usize,
    ) -> Result<Vec<Announcement>> {
        let all: Vec<_> = (1..=count)
            .map(|number| Announcement::new(session, event, number))
            .collect();
        self.publish(&all).await?;
        Ok(all)
    }

    /// Publishes events; returns once the broker has confirmed each of them.
    ///
    /// # Errors
    /// When a minute passes without progress.
    pub async fn publish(&mut self, all: &[Announcement]) -> Result<()> {
        let mut open: BTreeMap<usize, &Announcement> = all.iter().enumerate().collect();
        let mut progress = Instant::now();
        while !open.is_empty() {
            let before = open.len();
            let error = self.offer(&mut open).await.err();
            if open.len() < before {
                progress = Instant::now();
            }
            if let Some(error) = error {
                ensure!(progress.elapsed() < PATIENCE, "cannot publish: {error:#}");
                self.link = None;
                tokio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    async fn offer(&mut self, open: &mut BTreeMap<usize, &Announcement>) -> Result<()> {
        if self.link.is_none() {
            let connection = connect(&self.url).await?;
            let channel = connection.create_channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            self.link = Some((connection, channel));
        }
        let Some((_, channel)) = &self.link else {
            anyhow::bail!("no link");
        };
        let mut confirms = FuturesUnordered::new();
        let mut waiting = open.clone().into_iter();
        loop {
            if confirms.len() < WINDOW
                && let Some((number, event)) = waiting.next()
            {
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_message_id(event.id.as_str().into())
                    .with_type(event.key.split_once('.').map_or("", |(_, it)| it).into());
                let confirm = channel
                    .basic_publish(
                        self.exchange.as_str().into(),
                        event.key.as_str().into(),
                        BasicPublishOptions::default(),
                        &event.body,
                        properties,
                    )
                    .await?;
                confirms.push(async move { (number, confirm.await) });
                continue;
            }
            match confirms.next().await {
                None => return Ok(()),
                Some((number, Ok(confirm))) if confirm.is_ack() => {
                    open.remove(&number);
                }
                Some((_, Ok(_))) => anyhow::bail!("the broker did not take an event"),
                Some((_, Err(error))) => return Err(error.into()),
            }
        }
    }
}
