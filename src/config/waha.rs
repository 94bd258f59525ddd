//! `[engine.waha]`: the WAHA servers, their sessions, and how their events are received.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::contract::SessionName;

use super::read::{Section, duration, flag, has_unescaped_credentials, list, number, text};

/// `[engine.waha]`.
#[derive(Debug, Clone)]
pub struct Waha {
    /// The servers. A session belongs to the one with the most specific matching pattern.
    pub servers: Vec<WahaServer>,
    /// The time after which a request with an unknown outcome has certainly ended.
    pub settle: Duration,
    /// The interval of requesting the sessions' status.
    pub health_interval: Duration,
    /// The interval of comparing groups with the last known state; none means never.
    pub reconcile_interval: Option<Duration>,
    /// How long WAHA's lists may be outdated or incomplete.
    pub reconcile_lag: Duration,
    /// The receiver of WAHA's webhooks, if enabled.
    pub intake: Option<WahaIntake>,
    /// Whether events are received over WAHA's WebSocket.
    pub socket: bool,
}

/// One WAHA server.
#[derive(Debug, Clone)]
pub struct WahaServer {
    /// Its name in messages.
    pub name: String,
    /// Its base URL, without credentials and query.
    pub url: Url,
    /// Its `X-Api-Key`; empty if it needs none.
    pub api_key: SecretString,
    /// The sessions that it hosts.
    pub sessions: WahaPlaces,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Maximum size of a response in bytes.
    pub body_limit: usize,
}

/// `[engine.waha.intake]`.
#[derive(Debug, Clone)]
pub struct WahaIntake {
    /// The key of WAHA's HMAC.
    pub hmac_key: SecretString,
    /// Maximum difference between an event's timestamp and now.
    pub window: Duration,
    /// Maximum size of a request body in bytes.
    pub body_limit: usize,
}

/// A session's name, or a prefix and a `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WahaPlace(String);

impl FromStr for WahaPlace {
    type Err = &'static str;

    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let beginning = pattern.strip_suffix('*').unwrap_or(pattern);
        let fits = !pattern.is_empty() && beginning.bytes().all(plain);
        fits.then(|| Self(pattern.to_owned()))
            .ok_or("must be names of sessions, or prefixes followed by *")
    }
}

/// Sessions by name, which may be thousands, and by prefix.
#[derive(Debug, Clone, Default)]
pub struct WahaPlaces {
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl FromIterator<WahaPlace> for WahaPlaces {
    fn from_iter<T: IntoIterator<Item = WahaPlace>>(patterns: T) -> Self {
        let mut places = Self::default();
        for WahaPlace(pattern) in patterns {
            match pattern.strip_suffix('*') {
                Some(prefix) => places.prefixes.push(prefix.to_owned()),
                None => drop(places.names.insert(pattern)),
            }
        }
        places
    }
}

impl WahaPlaces {
    /// How specifically a session is matched: the length of the prefix, or the maximum for the name.
    fn fit(&self, session: &SessionName) -> Option<usize> {
        let name = session.as_str();
        if self.names.contains(name) {
            return Some(usize::MAX);
        }
        let prefixes = self.prefixes.iter();
        let fitting = prefixes.filter(|prefix| name.starts_with(prefix.as_str()));
        fitting.map(String::len).max()
    }
}

impl WahaServer {
    /// How specifically a session matches this server; none if it does not.
    #[must_use]
    pub fn fit(&self, session: &SessionName) -> Option<usize> {
        self.sessions.fit(session)
    }

    fn read(name: &str, mut section: Section<'_>, defaults: &Defaults) -> Option<Self> {
        let url = section.optional("url", base_url);
        let api_key = section.header_secret("api_key", "api_key_file");
        let sessions: Vec<WahaPlace> = section.required("sessions", list);
        if sessions.is_empty() {
            section.problem("sessions", "must contain at least one session, or \"*\"");
        }
        let timeout = section.optional("timeout", duration(TIMEOUTS));
        if url.is_none() {
            section.problem("url", "is missing: the server's base URL");
        }
        section.finish();
        Some(Self {
            name: name.to_owned(),
            url: url?,
            api_key: api_key.unwrap_or_default(),
            sessions: sessions.into_iter().collect(),
            timeout: timeout.unwrap_or(defaults.timeout),
            body_limit: defaults.body_limit,
        })
    }
}

struct Defaults {
    timeout: Duration,
    body_limit: usize,
}

const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_mins(10);

impl Waha {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let url = section.optional("url", base_url);
        let api_key = section.header_secret("api_key", "api_key_file");
        let defaults = Defaults {
            timeout: section.required("timeout", duration(TIMEOUTS)),
            body_limit: section.required("body_limit", number(1_024..=1_073_741_824)),
        };
        let hours = Duration::from_millis(100)..=Duration::from_hours(24);
        let settle = section.required("settle", duration(hours.clone()));
        let health_interval = section.required("health_interval", duration(hours));
        let socket = section.required("socket", flag);
        let (reconcile_interval, reconcile_lag) = Self::reconcile(section.section("reconcile"));
        let intake = WahaIntake::read(section.section("intake"));
        let mut servers: Vec<_> = section
            .section("servers")
            .each::<String, _>(
                |name, section| WahaServer::read(name, section, &defaults),
                None,
            )
            .into_values()
            .flatten()
            .collect();
        if let Some(url) = url {
            servers.push(WahaServer {
                name: "default".to_owned(),
                url,
                api_key: api_key.unwrap_or_default(),
                sessions: [WahaPlace("*".to_owned())].into_iter().collect(),
                timeout: defaults.timeout,
                body_limit: defaults.body_limit,
            });
        }
        section.finish();
        Self {
            servers,
            settle,
            health_interval,
            reconcile_interval,
            reconcile_lag,
            intake,
            socket,
        }
    }

    fn reconcile(mut section: Section<'_>) -> (Option<Duration>, Duration) {
        let days = Duration::ZERO..=Duration::from_hours(24 * 7);
        let interval = section.required("interval", duration(days));
        let hour = Duration::from_millis(100)..=Duration::from_hours(1);
        let lag = section.required("lag", duration(hour));
        section.finish();
        ((!interval.is_zero()).then_some(interval), lag)
    }
}

impl WahaIntake {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let enabled = section.required("enabled", flag);
        let key = section.secret("hmac_key", "hmac_key_file");
        let windows = Duration::from_secs(1)..=Duration::from_hours(24 * 7);
        let intake = Self {
            hmac_key: key.unwrap_or_default(),
            window: section.required("window", duration(windows)),
            body_limit: section.required("body_limit", number(1_024..=67_108_864)),
        };
        if enabled && intake.hmac_key.expose_secret().is_empty() {
            section.problem(
                "hmac_key",
                "is missing: WAHA signs its webhooks with it (config.webhooks[].hmac.key, or \
                 WHATSAPP_HOOK_HMAC_KEY)",
            );
        }
        section.finish();
        enabled.then_some(intake)
    }
}

fn base_url(value: &figment::value::Value) -> Result<Url, String> {
    let wrong =
        "must be an http or https URL without credentials and query, such as http://waha:3000";
    let text = text(value)?;
    let url: Url = text.parse().map_err(|_| wrong.to_owned())?;
    let plain = !has_unescaped_credentials(&text)
        && matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then_some(url).ok_or_else(|| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(patterns: &str, session: &str) -> Option<usize> {
        let patterns = patterns.split(',');
        let places: WahaPlaces = patterns
            .map(|it| it.parse::<WahaPlace>().unwrap())
            .collect();
        places.fit(&session.parse().unwrap())
    }

    #[test]
    fn the_pattern_that_says_most_fits_best() {
        assert_eq!(fit("*", "shop-1"), Some(0));
        assert_eq!(fit("shop-*", "shop-1"), Some(5));
        assert_eq!(fit("shop-1", "shop-1"), Some(usize::MAX));
        assert_eq!(fit("shop", "shop-1"), None);
        assert_eq!(fit("store-*", "shop-1"), None);
        assert_eq!(fit("*,shop-*,sh*,shop-2", "shop-1"), Some(5));
        assert_eq!(fit("*,shop-2,shop-1", "shop-1"), Some(usize::MAX));
        for wrong in ["", "a*b", "*a", "a b"] {
            assert!(wrong.parse::<WahaPlace>().is_err(), "{wrong}");
        }
    }
}
