//! Republishes dead letters at a limited rate: shared by `dead replay` and `webhooks replay`.
//!
//! The caller selects the dead letters and their destination.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use crate::amqp::{Client, Incoming, Outgoing};

use super::exit::{Exit, Failure};
use super::output;

/// A replay of a queue of dead letters.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    pub(super) client: &'a Client,
    /// The queue of dead letters.
    pub(super) queue: String,
    /// Maximum number per second.
    pub(super) rate: u32,
    /// Only count; publish nothing.
    pub(super) dry_run: bool,
    /// Print one JSON object instead of text.
    pub(super) json: bool,
}

impl Replay<'_> {
    /// Republishes the dead letters that match, and prints their number.
    pub(super) async fn run(
        self,
        matches: impl Fn(&Incoming) -> bool,
        to_outgoing: impl Fn(&Incoming) -> Outgoing,
    ) -> Result<Exit, Failure> {
        let mut browse = self.client.browse(&self.queue).await?;
        let progress = bar(u64::from(browse.left()));
        let mut pace = pace(self.rate);
        let mut sent = 0_u64;
        let mut interrupted = false;
        // One listener for the whole replay, so that a signal is not missed between two waits.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        // One at a time: published, confirmed, then removed. After a crash in between, the message is in both
        // queues with the same id, by which consumers detect the duplicate.
        while let Some(held) = browse.next().await? {
            progress.inc(1);
            let wanted = matches(&held.message);
            let sends = wanted && !self.dry_run;
            let turn = async {
                if sends {
                    pace.tick().await;
                }
            };
            // Both branches only wait; the interrupt has priority.
            tokio::select! {
                biased;
                _ = interrupt.recv() => {
                    interrupted = true;
                    break;
                }
                () = turn => {}
            }
            if sends {
                self.client.publish(&to_outgoing(&held.message)).await?;
                browse.remove(&held).await?;
            }
            sent += u64::from(wanted);
        }
        progress.finish_and_clear();
        let left = interrupted.then(|| browse.left());
        browse.end().await?;
        self.print_summary(sent, left)
    }

    fn print_summary(&self, sent: u64, left: Option<u32>) -> Result<Exit, Failure> {
        let exit = if left.is_some() {
            Exit::Abandoned
        } else {
            Exit::Ok
        };
        if self.json {
            let summary = json!({ "letters": sent, "dryRun": self.dry_run, "notLookedAt": left });
            output::line(&summary.to_string())?;
            return Ok(exit);
        }
        let done = if self.dry_run {
            "would be republished"
        } else {
            "republished"
        };
        output::line(&format!("{sent} dead letters {done}"))?;
        if let Some(left) = left {
            output::line(&format!(
                "interrupted; about {left} were not examined and remain in the queue"
            ))?;
        }
        Ok(exit)
    }
}

fn pace(rate: u32) -> Interval {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn bar(length: u64) -> ProgressBar {
    // indicatif writes to stderr, and only if that is a terminal.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    let bar = ProgressBar::new(length);
    style
        .map(|style| bar.clone().with_style(style))
        .unwrap_or(bar)
}
