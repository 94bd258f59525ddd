//! Queues of webhook endpoints that no endpoint owns, and endpoints that have no queue.
//!
//! AMQP cannot list queues, so an operator hands in what `rabbitmqctl list_queues` says. Without it only
//! endpoints without a queue are found.

use std::collections::BTreeSet;

use crate::amqp::{Client, Names};
use crate::cli::exit::Failure;
use crate::cli::output;

use super::WebhookAdmin;

/// Those of the listed queues that belong to an endpoint which the store does not know.
pub(in crate::cli) fn unowned<'a>(
    listed: &'a str,
    names: &Names,
    endpoints: &BTreeSet<String>,
) -> Vec<&'a str> {
    listed
        .split_whitespace()
        .filter(|queue| {
            let endpoint = names.endpoint_of(queue);
            endpoint.is_some_and(|name| !endpoints.contains(name))
        })
        .collect()
}

/// What to do about queues that no endpoint owns.
pub(in crate::cli) fn describe_unowned(unowned: &[&str]) -> String {
    format!(
        "queues that no endpoint owns: {}. They collect events that nobody takes: set the endpoint again \
         (`groupmq webhooks set`), or remove the queue (`rabbitmqctl delete_queue`)",
        unowned.join(", ")
    )
}

/// Prints what does not fit, below the list of endpoints.
pub(super) async fn print_mismatches(
    admin: &WebhookAdmin,
    listed: Option<&str>,
) -> Result<(), Failure> {
    let all = admin.endpoints.all().await?;
    let names: BTreeSet<_> = all.into_iter().map(|endpoint| endpoint.name).collect();
    let unowned = unowned(listed.unwrap_or_default(), &admin.names, &names);
    if !unowned.is_empty() {
        output::line(&describe_unowned(&unowned))?;
    }
    match Client::connect(&admin.target).await {
        Ok(client) => {
            let missing = missing(admin, &client, &names).await;
            client.close().await;
            let missing = missing?;
            if !missing.is_empty() {
                let missing = missing.join(", ");
                output::line(&format!(
                    "not in place on the broker: {missing}. `groupmq doctor` says what to do"
                ))?;
            }
        }
        // The store's part was shown, and is of use alone.
        Err(error) => output::line(&format!(
            "the broker's part is not known: {}",
            output::with_causes(&error)
        ))?,
    }
    Ok(())
}

async fn missing<'a>(
    admin: &WebhookAdmin,
    client: &Client,
    names: &'a BTreeSet<String>,
) -> Result<Vec<&'a str>, Failure> {
    let mut missing = Vec::new();
    for name in names {
        if !admin.fanout.is_in_place(client, name).await? {
            missing.push(name.as_str());
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queues_of_endpoints_under_this_prefix_can_lack_an_owner() {
        let listed = "name\ng.webhook.audit\ng.webhook.shop.crm\ng.webhook.gone\ng.commands.0\n\
                      g.dead.webhooks\nother.webhook.gone\n";
        let known = BTreeSet::from(["audit".to_owned(), "shop.crm".to_owned()]);
        let found = unowned(listed, &Names::new("g"), &known);
        assert_eq!(found, ["g.webhook.gone"]);
    }
}
