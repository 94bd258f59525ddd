//! `groupmq webhooks remove`, `pause` and `resume`: whether an endpoint's events are collected and sent.

use serde_json::Value;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::WebhookState;
use crate::store::endpoints::{Endpoint, Origin, Waiting};

use super::{Named, WebhookAdmin, lookup};

/// Why an endpoint is paused that an operator has paused.
const PAUSED: &str = "paused by an operator";

pub(super) async fn remove(
    admin: &WebhookAdmin,
    name: &str,
    waiting: Waiting,
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
        None => format!("{name} is gone, with whatever waited for it"),
        Some(_) => format!("{name} gets no more events, and goes once what waits is sent"),
    };
    print_result(left.as_ref(), json, &said)
}

pub(super) async fn pause(admin: &WebhookAdmin, named: &Named) -> Result<Exit, Failure> {
    let name = &named.name;
    match admin.find(name).await?.state {
        WebhookState::Active | WebhookState::Paused => {}
        WebhookState::Disabled => {
            return Err(Failure::Usage(format!(
                "{name} is disabled, so nothing is sent; `groupmq webhooks resume {name}` enables it"
            )));
        }
        WebhookState::Removing => return Err(being_removed(name)),
    }
    change(admin, named, WebhookState::Paused, Some(PAUSED)).await?;
    let said = format!("{name} is paused: its events are collected, and sent once it is resumed");
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

/// What cannot be done with an endpoint that is on its way out.
pub(super) fn being_removed(name: &str) -> Failure {
    Failure::Usage(format!(
        "{name} is being removed; set it again to take it back"
    ))
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
