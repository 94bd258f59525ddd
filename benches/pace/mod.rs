//! Times from a command to its reply, while commands come at a fixed rate, whether or not replies come.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join;
use lapin::Consumer;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::broker::{Broker, Kind, command};
use crate::measure::Spread;

/// How long each run lasts.
const SECONDS: usize = 4;

/// The times of one run, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The medians of some runs.
pub(crate) fn medians(runs: &[Times]) -> Times {
    Times {
        p50: Spread::of(runs, |it| it.p50).median,
        p99: Spread::of(runs, |it| it.p99).median,
    }
}

/// Sends commands that were written before, each when it is due, and waits for the replies. Each time counts from when
/// the command was due.
pub(crate) async fn measure(
    broker: &Broker,
    (prefix, exchange): (&str, &str),
    groups: &[String],
    rate: usize,
    replies: &mut Consumer,
) -> Times {
    let commands: Vec<Value> = (0..rate * SECONDS)
        .map(|number| command(Kind::Change, &groups[number % groups.len()], number))
        .collect();
    let step = Duration::from_secs(1) / u32::try_from(rate).unwrap();
    let begun = Instant::now();
    let due = |number: usize| begun + step * u32::try_from(number).unwrap();
    let numbers: HashMap<&str, usize> = (0..)
        .zip(&commands)
        .map(|(number, command)| (command["id"].as_str().unwrap(), number))
        .collect();
    let sending = async {
        let mut confirms = Vec::with_capacity(commands.len());
        for (number, command) in commands.iter().enumerate() {
            tokio::time::sleep_until(due(number)).await;
            let body = command.to_string();
            confirms.push(broker.publish(prefix, exchange, body).await);
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    };
    let receiving = async {
        let mut times = Vec::with_capacity(commands.len());
        while times.len() < commands.len() {
            let next = tokio::time::timeout(Duration::from_mins(1), replies.next()).await;
            let reply = next.expect("the worker sends replies").unwrap().unwrap();
            let reply: Value = serde_json::from_slice(&reply.data).unwrap();
            // The bare loop sends the command back.
            let id = reply.get("commandId").unwrap_or(&reply["id"]);
            let number = numbers.get(id.as_str().unwrap());
            times.extend(number.map(|number| due(*number).elapsed()));
        }
        times
    };
    let ((), mut times) = join(sending, receiving).await;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    Times {
        p50: at(50),
        p99: at(99),
    }
}
