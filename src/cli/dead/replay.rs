//! `groupmq dead replay`: dead letters back to where they came from, at a pace.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use crate::amqp::{Client, Incoming, Names, Outgoing, header};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;

use super::Filter;
use super::letter::Letter;

pub(super) async fn run(
    client: &Client,
    names: &Names,
    filter: &Filter,
    rate: u32,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let now = jiff::Timestamp::now();
    let mut walk = client.walk(&names.dead_commands()).await?;
    let progress = bar(u64::from(walk.left()));
    let mut pace = pace(rate);
    let mut sent = 0_u64;
    let mut interrupted = false;
    // One listener for the whole walk: whatever comes while it does something else is kept for it.
    let mut interrupt =
        signal(SignalKind::interrupt()).context("cannot listen for an interrupt")?;
    // One at a time: published, confirmed, then removed. Killed in between, a letter is in both
    // places, and the ledger sees that the command still has one effect.
    while let Some(held) = walk.next().await? {
        progress.inc(1);
        let takes = filter.takes(&Letter::read(&held.message), now);
        let sends = takes && !dry_run;
        let turn = async {
            if sends {
                pace.tick().await;
            }
        };
        // Both only wait; where both are due, the interrupt counts.
        tokio::select! {
            biased;
            _ = interrupt.recv() => {
                interrupted = true;
                break;
            }
            () = turn => {}
        }
        if sends {
            client.publish(&back(&held.message, names)).await?;
            walk.remove(&held).await?;
        }
        sent += u64::from(takes);
    }
    progress.finish_and_clear();
    let left = walk.left();
    walk.end().await?;
    let done = if dry_run {
        "would be sent back"
    } else {
        "sent back"
    };
    output::line(&format!("{sent} dead letters {done}"))?;
    if interrupted {
        output::line(&format!(
            "interrupted; about {left} were not looked at and are still there"
        ))?;
        return Ok(Exit::Abandoned);
    }
    Ok(Exit::Ok)
}

/// The message as it was first published, but for when it was first seen.
fn back(message: &Incoming, names: &Names) -> Outgoing {
    let header = |name: &str| message.headers.get(name).cloned().unwrap_or_default();
    // What was published straight to the queue, or came from there to the broker's own limit, goes
    // straight to the queue again.
    let by_exchange = header(header::EXCHANGE) == names.commands();
    let (exchange, routing_key) = if by_exchange {
        (names.commands(), header(header::ROUTING_KEY))
    } else {
        (String::new(), names.shard(0))
    };
    let own = |name: &String| name != header::FIRST_SEEN && name.starts_with("groupmq-");
    let headers: BTreeMap<_, _> = message
        .headers
        .iter()
        .filter(|(name, _)| !own(name) && !name.starts_with("x-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Outgoing {
        exchange,
        routing_key,
        message_id: message.message_id.clone().unwrap_or_default(),
        message_type: message.message_type.clone().unwrap_or_default(),
        correlation_id: message.correlation_id.clone(),
        reply_to: message.reply_to.clone(),
        headers,
        body: message.body.clone(),
        mandatory: true,
    }
}

fn pace(rate: u32) -> Interval {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn bar(length: u64) -> ProgressBar {
    // Only on a terminal; indicatif writes to stderr and is silent elsewhere.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    let bar = ProgressBar::new(length);
    style
        .map(|style| bar.clone().with_style(style))
        .unwrap_or(bar)
}
