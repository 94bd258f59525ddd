//! `groupmq events tail`: print group events live.

use std::time::Duration;

use clap::Subcommand;

use crate::amqp::{Client, Names, Target};
use crate::config::Config;
use crate::contract::{Event, EventName, WebhookNotice};

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Print new events until interrupted.
    Tail {
        /// Only events of this session.
        #[arg(long, default_value = "*")]
        session: String,
        /// Only this event, such as group.join; `group.v2.#` matches a family.
        #[arg(long, default_value = "#")]
        event: String,
        /// Stop after this number of events.
        #[arg(long)]
        count: Option<usize>,
        /// Stop after this time.
        #[arg(long, value_parser = super::send::duration)]
        timeout: Option<Duration>,
        /// Print each event unchanged, one JSON object per line.
        #[arg(long)]
        json: bool,
    },
}

impl Events {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        let Self::Tail {
            session,
            event,
            count,
            timeout,
            json,
        } = self;
        let names = Names::new(&config.topology.prefix);
        let client = Client::connect(&Target::new(config.amqp)).await?;
        let pattern = format!("{session}.{}", current_name(&event));
        let mut events = client.tail(&names.events(), &pattern).await?;
        let mut again = tokio::time::interval(config.topology.interval);
        let print = async {
            for _ in 0..count.unwrap_or(usize::MAX) {
                let message = loop {
                    // Both branches can be dropped.
                    tokio::select! {
                        message = events.next() => match message? {
                            ping if ping.is_ping() => {}
                            message => break message,
                        },
                        _ = again.tick() => {
                            client.tail_on(&events, &names.events(), &pattern).await?;
                        }
                    }
                };
                let body = String::from_utf8_lossy(&message.body);
                output::line(&if json {
                    body.into_owned()
                } else {
                    readable(&body)
                })?;
            }
            Ok(Exit::Ok)
        };
        match timeout {
            None => print.await,
            Some(limit) => tokio::time::timeout(limit, print)
                .await
                .unwrap_or(Ok(Exit::Ok)),
        }
    }
}

/// WAHA's `group.leave` is an alias of `group.left`.
fn current_name(event: &str) -> &str {
    if event == "group.leave" {
        EventName::GroupLeft.as_str()
    } else {
        event
    }
}

/// One line: time, session, event and payload.
fn readable(body: &str) -> String {
    if let Ok(event) = serde_json::from_str::<Event>(body) {
        let payload = serde_json::to_string(&event.payload).unwrap_or_default();
        let (at, session) = (event.timestamp, event.session.as_str());
        return row(at, session, event.event.as_str(), &payload);
    }
    let Ok(notice) = serde_json::from_str::<WebhookNotice>(body) else {
        return body.to_owned();
    };
    let payload = serde_json::to_string(&notice.payload).unwrap_or_default();
    let session = notice.session.as_ref().map_or("~", |it| it.as_str());
    row(notice.timestamp, session, notice.event.as_str(), &payload)
}

fn row(at: i64, session: &str, event: &str, payload: &str) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    format!("{at:.3}  {session}  {event:<21}  {payload}")
}
