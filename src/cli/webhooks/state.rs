//! `groupmq webhooks remove`, `pause` and `resume`.

use serde_json::Value;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::WebhookState;
use crate::store::endpoints::{Endpoint, Origin, QueuedDeliveries};

use super::{Named, WebhookAdmin, lookup};

/// The reason of an endpoint that an operator has paused.
const PAUSED: &str = "paused by an operator";

pub(super) async fn remove(
    admin: &WebhookAdmin,
    name: &str,
    waiting: QueuedDeliveries,
    json: bool,
) -> Result<Exit, Failure> {
    let endpoint = admin.find(name).await?;
    if endpoint.origin == Origin::Configuration && endpoint.state != WebhookState::Removing {
        return Err(Failure::Usage(format!(
            "{name} is declared in the configuration ([[webhooks]]); remove it from the configuration"
        )));
    }
    admin.endpoints.remove(name, waiting).await?;
    admin.fanout.sync(name).await?;
    let left = admin.endpoints.get(name).await?;
    let said = match &left {
        None => format!("{name} is removed, and the events in its queue are discarded"),
        Some(_) => format!(
            "{name} collects no more events, and is removed after those in its queue have been delivered"
        ),
    };
    print_result(left.as_ref(), json, &said)
}

pub(super) async fn pause(admin: &WebhookAdmin, named: &Named) -> Result<Exit, Failure> {
    let name = &named.name;
    match admin.find(name).await?.state {
        WebhookState::Active | WebhookState::Paused => {}
        WebhookState::Disabled => {
            return Err(Failure::Usage(format!(
                "{name} is disabled; `groupmq webhooks resume {name}` enables it"
            )));
        }
        WebhookState::Removing => return Err(being_removed(name)),
    }
    change(admin, named, WebhookState::Paused, Some(PAUSED)).await?;
    let said =
        format!("{name} is paused: its events are collected and will be sent when it is resumed");
    print_result(admin.endpoints.get(name).await?.as_ref(), named.json, &said)
}

pub(super) async fn resume(admin: &WebhookAdmin, named: &Named) -> Result<Exit, Failure> {
    let name = &named.name;
    if admin.find(name).await?.state == WebhookState::Removing {
        return Err(being_removed(name));
    }
    change(admin, named, WebhookState::Active, None).await?;
    let said = format!("{name} is active: its events are collected and sent");
    print_result(admin.endpoints.get(name).await?.as_ref(), named.json, &said)
}

async fn change(
    admin: &WebhookAdmin,
    named: &Named,
    state: WebhookState,
    reason: Option<&str>,
) -> Result<(), Failure> {
    admin
        .endpoints
        .set_state(&named.name, state, reason)
        .await?;
    Ok(admin.fanout.sync(&named.name).await?)
}

/// The failure of commands on an endpoint that is being removed.
pub(super) fn being_removed(name: &str) -> Failure {
    Failure::Usage(format!("{name} is being removed; set it again to keep it"))
}

fn print_result(endpoint: Option<&Endpoint>, json: bool, said: &str) -> Result<Exit, Failure> {
    if json {
        let fields = endpoint.map_or(Value::Null, |it| Value::Object(lookup::endpoint_json(it)));
        output::line(&fields.to_string())?;
    } else {
        output::line(said)?;
    }
    Ok(Exit::Ok)
}
