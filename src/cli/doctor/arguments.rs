//! Whether what is on the broker has groupmq's arguments, or was made by somebody else with others.

use std::collections::BTreeSet;

use crate::amqp::{self, Client, Comparison, Names, Target, Topology};
use crate::config::Config;

use super::with_causes;

/// Adds to what is known of the fixed part of the topology whether its arguments are right.
pub(super) async fn check_topology(
    config: &Config,
    found: Result<String, String>,
) -> Result<String, String> {
    let topology = Topology::new(&config.topology);
    combine(
        found,
        compare(config, async |client| client.compare(&topology).await).await,
    )
}

/// The same for the queues of webhook endpoints.
pub(super) async fn check_webhook_queues(
    config: &Config,
    endpoints: &BTreeSet<String>,
    found: Result<String, String>,
) -> Result<String, String> {
    let names = Names::new(&config.topology.prefix);
    combine(
        found,
        compare(config, async |client| {
            client
                .compare_webhook_queues(&names, endpoints.iter())
                .await
        })
        .await,
    )
}

/// A connection apart: an exchange of a type that the broker does not know ends it.
async fn compare(
    config: &Config,
    compare: impl AsyncFnOnce(&Client) -> Result<Comparison, amqp::Error>,
) -> Result<Comparison, amqp::Error> {
    let client = Client::connect(&Target::new(config.amqp.clone())).await?;
    let compared = compare(&client).await;
    client.close().await;
    compared
}

/// One finding of both looks.
fn combine(
    found: Result<String, String>,
    compared: Result<Comparison, amqp::Error>,
) -> Result<String, String> {
    let compared = match compared {
        Ok(comparison) => describe(&comparison),
        Err(error) => Err(with_causes(error)),
    };
    match (found, compared) {
        (Ok(found), Ok(None)) => Ok(found),
        (Ok(found), Ok(Some(note))) => Ok(format!("{found}; {note}")),
        (Err(problem), Err(other)) => Err(format!("{problem}; {other}")),
        (Err(problem), Ok(_)) | (Ok(_), Err(problem)) => Err(problem),
    }
}

/// What is to be said of a comparison, if anything.
fn describe(comparison: &Comparison) -> Result<Option<String>, String> {
    if !comparison.differing.is_empty() {
        return Err(format!(
            "there with other arguments than groupmq's (406): {}. `groupmq topology show` says what is wanted: \
             take what is in the queue, delete what differs and run `groupmq topology apply`, or choose another \
             topology.prefix",
            comparison.differing.join("; ")
        ));
    }
    let forbidden = comparison.forbidden.first().map(|first| {
        let count = comparison.forbidden.len();
        format!(
            "the arguments of {count} could not be compared, since this user may not declare them (403), such as \
             {first}"
        )
    });
    Ok(forbidden)
}
