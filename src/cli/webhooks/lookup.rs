//! `groupmq webhooks list` and `show`.

use serde_json::{Map, Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{self, printable};
use crate::contract::{RetryPolicy, Webhook};
use crate::observability::describe::with_causes;
use crate::store::endpoints::{Endpoint, Origin};

use super::{WebhookAdmin, queues};

pub(super) async fn list(
    admin: &WebhookAdmin,
    listed: Option<&str>,
    json: bool,
) -> Result<Exit, Failure> {
    let endpoints = admin.endpoints.all().await?;
    if json {
        for endpoint in &endpoints {
            output::line(&Value::Object(endpoint_json(endpoint)).to_string())?;
        }
        return Ok(Exit::Ok);
    }
    output::line(&format!(
        "{:<28}  {:<16}  {:<24}  {:<16}  URL",
        "NAME", "STATE", "EVENTS", "SESSIONS"
    ))?;
    for endpoint in &endpoints {
        let shown = endpoint.shown();
        output::line(&format!(
            "{:<28}  {:<16}  {:<24}  {:<16}  {}",
            shown.id,
            state(&shown),
            printable(&join(&shown.events), 40),
            printable(&join(&shown.sessions), 40),
            printable(shown.url.as_str(), 120),
        ))?;
    }
    output::line(&format!("{} webhook endpoints", endpoints.len()))?;
    queues::print_mismatches(admin, listed).await?;
    Ok(Exit::Ok)
}

pub(super) async fn show(
    admin: &WebhookAdmin,
    name: &str,
    secrets: bool,
    json: bool,
) -> Result<Exit, Failure> {
    let endpoint = admin.find(name).await?;
    // The settings are shown even if the broker is not available.
    let waiting = waiting(admin, name).await;
    if json {
        let mut fields = endpoint_json(&endpoint);
        fields.insert("queue".to_owned(), json!(admin.names.webhook(name)));
        fields.insert("waiting".to_owned(), json!(waiting.as_ref().ok()));
        if secrets {
            fields.extend(revealed(&endpoint));
        }
        output::line(&Value::Object(fields).to_string())?;
        return Ok(Exit::Ok);
    }
    let waiting = match waiting {
        Ok(count) => format!("about {count} waiting"),
        Err(failure) => with_causes(&failure),
    };
    let queue = format!("{}, {waiting}", admin.names.webhook(name));
    for (what, value) in lines(&endpoint, queue) {
        output::line(&format!("{what:<12}  {}", printable(&value, 2_200)))?;
    }
    if secrets {
        for (what, value) in revealed_lines(&endpoint) {
            output::line(&format!("{what:<12}  {value}"))?;
        }
    }
    Ok(Exit::Ok)
}

/// The number of deliveries in the endpoint's queue.
async fn waiting(admin: &WebhookAdmin, name: &str) -> Result<u32, Failure> {
    let client = admin.client().await?;
    let queue = client.queue(&admin.names.webhook(name)).await;
    client.close().await;
    Ok(queue?.0)
}

/// The fields of a reply, and more for operators.
pub(super) fn endpoint_json(endpoint: &Endpoint) -> Map<String, Value> {
    // Serialising our own types cannot fail.
    let mut fields = match serde_json::to_value(endpoint.shown()) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let settings = &endpoint.settings;
    fields.insert("setBy".to_owned(), json!(set_by(endpoint.origin)));
    fields.insert(
        "signs".to_owned(),
        json!({ "ownSecrets": settings.secrets.len(), "hmac": settings.hmac.is_some() }),
    );
    fields
}

fn lines(endpoint: &Endpoint, queue: String) -> Vec<(&'static str, String)> {
    let shown = endpoint.shown();
    let retries = shown.retries.as_ref().map_or_else(
        || "groupmq's schedule".to_owned(),
        |retries| {
            let policy = match retries.policy {
                RetryPolicy::Constant => "constant",
                RetryPolicy::Linear => "linear",
                RetryPolicy::Exponential => "exponential",
            };
            let (delay, attempts) = (retries.delay_seconds, retries.attempts);
            format!("{policy} from {delay} s, at most {attempts}")
        },
    );
    let or_default =
        |number: Option<String>| number.unwrap_or_else(|| "default ([delivery])".to_owned());
    let concurrency = shown.concurrency.map(|most| most.to_string());
    let timeout = shown.timeout_seconds.map(|seconds| format!("{seconds} s"));
    let rate = shown.rate_limit.map(|rate| format!("{rate} per second"));
    vec![
        ("name", shown.id.clone()),
        ("state", state(&shown)),
        ("reason", shown.reason.clone().unwrap_or_default()),
        ("url", shown.url.to_string()),
        ("events", join(&shown.events)),
        ("sessions", join(&shown.sessions)),
        ("set by", set_by(endpoint.origin).to_owned()),
        ("signs with", signs_with(endpoint)),
        ("headers", join(&shown.custom_headers)),
        ("retries", retries),
        ("rate limit", rate.unwrap_or_else(|| "none".to_owned())),
        ("concurrency", or_default(concurrency)),
        (
            "ordered",
            if shown.ordered { "yes" } else { "no" }.to_owned(),
        ),
        ("timeout", or_default(timeout)),
        ("queue", queue),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

pub(super) fn state(shown: &Webhook) -> String {
    match shown.failing_since {
        Some(since) => format!("{}, failing since {since}", shown.state.as_str()),
        None => shown.state.as_str().to_owned(),
    }
}

fn signs_with(endpoint: &Endpoint) -> String {
    let own = endpoint.settings.secrets.len();
    let standard = if own > 0 {
        format!("its own secrets ({own})")
    } else {
        format!("secrets generated by groupmq ({})", endpoint.secrets.len())
    };
    match endpoint.settings.hmac {
        Some(_) => format!("{standard}, and WAHA's HMAC"),
        None => standard,
    }
}

/// Secrets and header values, which are hidden elsewhere.
fn revealed(endpoint: &Endpoint) -> Map<String, Value> {
    let settings = &endpoint.settings;
    let own = settings.secrets.iter().map(|it| json!({ "secret": it }));
    let made = endpoint.secrets.iter().map(|it| {
        let until = it
            .until
            .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
        json!({ "secret": it.secret, "until": until.map(|at| format!("{at:.3}")) })
    });
    let secrets: Vec<_> = if settings.secrets.is_empty() {
        made.collect()
    } else {
        own.collect()
    };
    let mut revealed = Map::new();
    revealed.insert("secrets".to_owned(), json!(secrets));
    revealed.insert("hmac".to_owned(), json!(settings.hmac));
    revealed.insert("customHeaders".to_owned(), json!(settings.custom_headers));
    revealed
}

fn revealed_lines(endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let revealed = revealed(endpoint);
    let mut lines = Vec::new();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    for secret in revealed["secrets"].as_array().into_iter().flatten() {
        let until = text(secret.get("until"));
        let until = if until.is_empty() {
            until
        } else {
            format!(" until {until}")
        };
        lines.push(("secret", text(secret.get("secret")) + &until));
    }
    if let Some(hmac) = &endpoint.settings.hmac {
        lines.push(("hmac key", hmac.key.to_string()));
    }
    for header in &endpoint.settings.custom_headers {
        lines.push(("header", format!("{}: {}", header.name, header.value)));
    }
    lines
}

const fn set_by(origin: Origin) -> &'static str {
    match origin {
        Origin::Configuration => "configuration",
        Origin::Command => "command",
        Origin::Operator => "operator",
    }
}

fn join(list: &[impl ToString]) -> String {
    let texts: Vec<_> = list.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
