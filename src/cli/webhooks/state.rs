//! `groupmq webhooks remove`, `pause` and `resume`: whether an endpoint's events are collected and sent.

use serde_json::Value;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::WebhookState;
use crate::store::endpoints::{Endpoint, Origin, Waiting};

use super::{Desk, Named, lookup};

/// Why an endpoint is paused that an operator has paused.
const PAUSED: &str = "paused by an operator";

pub(super) async fn remove(
    desk: &Desk,
    name: &str,
    waiting: Waiting,
    json: bool,
) -> Result<Exit, Failure> {
    let endpoint = desk.find(name).await?;
    if endpoint.origin == Origin::Configuration && endpoint.state != WebhookState::Removing {
        return Err(Failure::Usage(format!(
            "{name} is declared in the configuration ([[webhooks]]); remove it from the configuration"
        )));
    }
    desk.endpoints.remove(name, waiting).await?;
    desk.fanout.sync(name).await?;
    let left = desk.endpoints.get(name).await?;
    let said = match &left {
        None => format!("{name} is gone, with whatever waited for it"),
        Some(_) => format!("{name} gets no more events, and goes once what waits is sent"),
    };
    tell(left.as_ref(), json, &said)
}

pub(super) async fn pause(desk: &Desk, named: &Named) -> Result<Exit, Failure> {
    let name = &named.name;
    match desk.find(name).await?.state {
        WebhookState::Active | WebhookState::Paused => {}
        WebhookState::Disabled => {
            return Err(Failure::Usage(format!(
                "{name} is disabled, so nothing is sent; `groupmq webhooks resume {name}` enables it"
            )));
        }
        WebhookState::Removing => return Err(going(name)),
    }
    change(desk, named, WebhookState::Paused, Some(PAUSED)).await?;
    let said = format!("{name} is paused: its events are collected, and sent once it is resumed");
    tell(desk.endpoints.get(name).await?.as_ref(), named.json, &said)
}

pub(super) async fn resume(desk: &Desk, named: &Named) -> Result<Exit, Failure> {
    let name = &named.name;
    if desk.find(name).await?.state == WebhookState::Removing {
        return Err(going(name));
    }
    change(desk, named, WebhookState::Active, None).await?;
    let said = format!("{name} is active: its events are collected and sent");
    tell(desk.endpoints.get(name).await?.as_ref(), named.json, &said)
}

async fn change(
    desk: &Desk,
    named: &Named,
    state: WebhookState,
    reason: Option<&str>,
) -> Result<(), Failure> {
    desk.endpoints.set_state(&named.name, state, reason).await?;
    Ok(desk.fanout.sync(&named.name).await?)
}

/// What cannot be done with an endpoint that is on its way out.
pub(super) fn going(name: &str) -> Failure {
    Failure::Usage(format!(
        "{name} is being removed; set it again to take it back"
    ))
}

fn tell(endpoint: Option<&Endpoint>, json: bool, said: &str) -> Result<Exit, Failure> {
    if json {
        let told = endpoint.map_or(Value::Null, |it| Value::Object(lookup::told(it)));
        output::line(&told.to_string())?;
    } else {
        output::line(said)?;
    }
    Ok(Exit::Ok)
}
