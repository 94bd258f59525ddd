//! Whether the exchanges and queues on the broker have groupmq's arguments.

use std::collections::BTreeSet;

use crate::amqp::{self, Client, Comparison, Names, Target, Topology};
use crate::config::Config;

use super::with_causes;

/// Adds the comparison of arguments to the finding about exchanges and queues.
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

/// Adds the comparison of arguments to the finding about the queues of webhook endpoints.
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

/// Uses its own connection, since the broker closes it over an exchange type that it does not know.
async fn compare(
    config: &Config,
    compare: impl AsyncFnOnce(&Client) -> Result<Comparison, amqp::Error>,
) -> Result<Comparison, amqp::Error> {
    let client = Client::connect(&Target::new(config.amqp.clone())).await?;
    let compared = compare(&client).await;
    client.close().await;
    compared
}

/// Combines two findings.
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

/// Describes a comparison: an error, a note, or nothing.
fn describe(comparison: &Comparison) -> Result<Option<String>, String> {
    if !comparison.differing.is_empty() {
        return Err(format!(
            "arguments differ from groupmq's (406): {}. `groupmq topology show` shows the required ones: move the \
             messages out of the queue, delete it and run `groupmq topology apply`, or choose another \
             topology.prefix",
            comparison.differing.join("; ")
        ));
    }
    let forbidden = comparison.forbidden.first().map(|first| {
        let count = comparison.forbidden.len();
        format!(
            "the arguments of {count} could not be compared, since this user has no permission to declare them \
             (403), such as {first}"
        )
    });
    Ok(forbidden)
}
