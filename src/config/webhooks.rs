//! `[[webhooks]]`: endpoints declared in the configuration.
//!
//! The fields are those of `SetWebhook` and `sessions`. Secrets may be read from files.

use std::collections::BTreeSet;

use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::contract::{
    CustomHeader, Hmac, Retries, RetryPolicy, WebhookId, WebhookSettings, WebhookUrl,
};

use super::read::{Section, flag, list, number, parsed, text, trimmed};

/// An endpoint declared in the configuration.
#[derive(Debug, Clone)]
pub struct DeclaredWebhook {
    /// Its id; derived from the URL if none is given.
    pub id: WebhookId,
    /// Its settings.
    pub settings: WebhookSettings,
}

/// Maximum number of patterns and headers of one endpoint.
const MAX_ENTRIES: usize = 32;

/// Reads one endpoint; `seen` are the ids of the earlier ones.
pub(super) fn read(
    mut table: Section<'_>,
    seen: &mut BTreeSet<WebhookId>,
) -> Option<DeclaredWebhook> {
    let id = table.optional("id", parsed);
    let url: Option<WebhookUrl> = table.wanted("url", parsed);
    let id = id.or_else(|| url.as_ref().and_then(id_of));
    if id
        .as_ref()
        .is_some_and(|id: &WebhookId| !seen.insert(id.clone()))
    {
        table.problem("id", "is used by another endpoint; each needs its own");
    }
    let settings = endpoint(&mut table, url);
    table.finish();
    Some(DeclaredWebhook {
        id: id?,
        settings: settings?,
    })
}

fn endpoint(table: &mut Section<'_>, url: Option<WebhookUrl>) -> Option<WebhookSettings> {
    let events = table.optional("events", some);
    let sessions = table.optional("sessions", some);
    let hmac = hmac(table);
    let secrets = secrets(table);
    let retries = retries(table);
    let custom_headers = headers(table);
    let rate_limit = table.optional("rateLimit", number(1..=10_000));
    let concurrency = table.optional("concurrency", number(1..=64));
    let ordered = table.optional("ordered", flag).unwrap_or_default();
    let timeout_seconds = table.optional("timeoutSeconds", number(1..=30));
    let disabled = table.optional("disabled", flag).unwrap_or_default();
    Some(WebhookSettings {
        url: url?,
        events: events.or_else(|| Some(vec!["*".parse().ok()?]))?,
        sessions: sessions.or_else(|| Some(vec!["*".parse().ok()?]))?,
        hmac,
        secrets,
        retries,
        custom_headers,
        rate_limit,
        concurrency,
        ordered,
        timeout_seconds,
        disabled,
    })
}

/// Derives the id from the URL, so that the endpoint keeps its queue over restarts.
fn id_of(url: &WebhookUrl) -> Option<WebhookId> {
    let digest = format!("{:x}", Sha256::digest(url.as_str()));
    format!("url-{}", digest.get(..12)?).parse().ok()
}

fn some<T: std::str::FromStr>(value: &Value) -> Result<Vec<T>, String>
where
    T::Err: std::fmt::Display,
{
    let all: Vec<T> = list(value)?;
    if all.is_empty() || all.len() > MAX_ENTRIES {
        return Err(format!("must have 1 to {MAX_ENTRIES} entries"));
    }
    Ok(all)
}

fn hmac(table: &mut Section<'_>) -> Option<Hmac> {
    if !table.has("hmac") {
        return None;
    }
    let mut section = table.section("hmac");
    let key = if let Some(key) = section.secret("key", "key_file") {
        let read = key.expose_secret().parse();
        read.map_err(|error| section.problem("key", error)).ok()
    } else {
        section.problem(
            "key",
            "is missing; key_file can name a file that contains it",
        );
        None
    };
    section.finish();
    Some(Hmac { key: key? })
}

fn secrets(table: &mut Section<'_>) -> Vec<crate::contract::SigningSecret> {
    let files = table.optional("secret_files", |value| {
        let files: Vec<String> = list(value)?;
        files.iter().map(|file| read_secret(file)).collect()
    });
    let given = table.optional("secrets", list).unwrap_or_default();
    let all: Vec<_> = [given, files.unwrap_or_default()].concat();
    if all.len() > 8 {
        table.problem("secrets", "must have at most 8 entries");
    }
    all
}

fn read_secret(file: &str) -> Result<crate::contract::SigningSecret, String> {
    let secret: SecretString = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {file}: {error}"))?
        .into();
    trimmed(secret.expose_secret())
        .parse()
        .map_err(|error| format!("the content of {file} {error}"))
}

fn retries(table: &mut Section<'_>) -> Option<Retries> {
    if !table.has("retries") {
        return None;
    }
    let mut section = table.section("retries");
    let policy = section.wanted("policy", |value| match text(value)?.as_str() {
        "constant" => Ok(RetryPolicy::Constant),
        "linear" => Ok(RetryPolicy::Linear),
        "exponential" => Ok(RetryPolicy::Exponential),
        _ => Err("must be constant, linear or exponential".to_owned()),
    });
    let delay_seconds = section.wanted("delaySeconds", number(1..=86_400));
    let attempts = section.wanted("attempts", number(0..=100));
    section.finish();
    Some(Retries {
        policy: policy?,
        delay_seconds: delay_seconds?,
        attempts: attempts?,
    })
}

fn headers(table: &mut Section<'_>) -> Vec<CustomHeader> {
    let read = table.tables("customHeaders", header);
    let all: Vec<_> = read.into_iter().flatten().collect();
    let names: BTreeSet<_> = all
        .iter()
        .map(|header| header.name.as_str().to_ascii_lowercase())
        .collect();
    if names.len() < all.len() || all.len() > MAX_ENTRIES {
        table.problem(
            "customHeaders",
            "must have at most 32 entries with different names",
        );
    }
    all
}

fn header(mut section: Section<'_>) -> Option<CustomHeader> {
    let name = section.wanted("name", parsed);
    let value = if let Some(value) = section.secret("value", "value_file") {
        let read = value.expose_secret().parse();
        read.map_err(|error| section.problem("value", error)).ok()
    } else {
        section.problem(
            "value",
            "is missing; value_file can name a file that contains it",
        );
        None
    };
    section.finish();
    Some(CustomHeader {
        name: name?,
        value: value?,
    })
}
