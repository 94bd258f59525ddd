//! Queues without an endpoint in the store, and endpoints without a queue.
//!
//! AMQP cannot list queues, so the operator passes the output of `rabbitmqctl list_queues`. Without it, only
//! endpoints without a queue are found.

use std::collections::BTreeSet;

use crate::amqp::{Client, Names};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::observability::describe::with_causes;

use super::WebhookAdmin;

/// The listed queues whose endpoint is not in the store.
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

/// The finding about queues without an endpoint, with the remedy.
pub(in crate::cli) fn describe_unowned(unowned: &[&str]) -> String {
    format!(
        "queues without an endpoint in the store: {}. They collect events that are never delivered: set the \
         endpoint again (`groupmq webhooks set`), or delete the queue (`rabbitmqctl delete_queue`)",
        unowned.join(", ")
    )
}

/// Prints the mismatches below the list of endpoints.
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
                    "without queue or bindings on the broker: {missing}. `groupmq doctor` suggests a remedy"
                ))?;
            }
        }
        // The list from the store is useful by itself.
        Err(error) => output::line(&format!(
            "the queues could not be checked: {}",
            with_causes(&error)
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
