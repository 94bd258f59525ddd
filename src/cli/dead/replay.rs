//! `groupmq dead replay`: republishes dead letters to where they came from.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::amqp::{BROKER_REFUSED, Client, Incoming, Names, Outgoing, header};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::replay::Replay;
use crate::contract::Envelope;

use super::Filter;
use super::dead_letter::DeadLetter;

pub(super) async fn run(
    client: &Client,
    names: &Names,
    filter: &Filter,
    rate: u32,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let now = jiff::Timestamp::now();
    let replay = Replay {
        client,
        queue: names.dead_commands(),
        rate,
        dry_run,
        json: false,
    };
    let without_picture = Cell::new(0_u64);
    let done = replay
        .run(
            |message| {
                // A dead letter has no body if the broker did not accept it; there is nothing to publish.
                let wanted =
                    !message.body.is_empty() && filter.matches(&DeadLetter::read(message), now);
                let lacks_picture = message.headers.contains_key(header::PICTURE);
                if wanted && lacks_picture {
                    without_picture.set(without_picture.get() + 1);
                }
                wanted && !lacks_picture
            },
            |message| original(message, names),
        )
        .await?;
    let left = without_picture.get();
    if left > 0 {
        output::line(&format!(
            "{left} dead letters have lost their picture and stay; send their commands again"
        ))?;
    }
    Ok(done)
}

/// The message as it was first published, except that it keeps the time it was first seen.
fn original(message: &Incoming, names: &Names) -> Outgoing {
    let header = |name: &str| message.headers.get(name).cloned().unwrap_or_default();
    // An event or a copy of a reply that the broker refused.
    let published = [names.events(), names.replies()].contains(&header(header::EXCHANGE));
    let is_ours = published && header(header::CODE) == BROKER_REFUSED;
    // Published directly to a queue, or dead-lettered from there by the broker's limit: goes to its session's
    // queue, as a deferred command does.
    let by_exchange = header(header::EXCHANGE) == names.commands();
    let envelope: Option<Envelope> = serde_json::from_slice(&message.body).ok();
    let (exchange, routing_key) = match envelope.and_then(|it| it.session) {
        _ if is_ours => (header(header::EXCHANGE), header(header::ROUTING_KEY)),
        _ if by_exchange => (names.commands(), header(header::ROUTING_KEY)),
        Some(session) => (names.back(), session.to_string()),
        None => (String::new(), names.shard(0)),
    };
    let own = |name: &String| name != header::FIRST_SEEN && name.starts_with("groupmq-");
    let headers: BTreeMap<_, _> = message
        .headers
        .iter()
        .filter(|(name, _)| !own(name) && !header::is_for_the_broker(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Outgoing {
        exchange,
        routing_key,
        message_id: message.message_id.clone().unwrap_or_default(),
        message_type: message.message_type.clone().unwrap_or_default(),
        correlation_id: message.correlation_id.clone(),
        reply_to: message.reply_to.clone(),
        content_type: message.content_type.clone(),
        content_encoding: message.content_encoding.clone(),
        headers,
        body: message.body.clone(),
        mandatory: true,
        published_at: None,
    }
}
