//! `[gateway]`: the HTTP interface and its keys.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha512};

use super::read::{Section, duration, flag, from_words, list, number, parsed, text};
use crate::contract::SessionPattern;

/// `[gateway]`
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// How long a request waits for its reply.
    pub timeout: Duration,
    /// Timeout for reading a request and for writing a response.
    pub client_timeout: Duration,
    /// Maximum number of requests that wait for a reply.
    pub in_flight: usize,
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum size of a request body in bytes.
    pub body_max: usize,
    /// Maximum number of commands without a reply that are reported as pending.
    pub commands_kept: usize,
    /// Maximum number of events kept for clients that reconnect.
    pub events_kept: usize,
    /// Without keys, authorise everyone for everything.
    pub open: bool,
    /// The keys by name. Without any, only this machine is authorised, unless `open` is set.
    pub keys: BTreeMap<KeyName, ApiKey>,
}

/// The name of a key in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

/// The hash of an API key, and what the key authorises.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// SHA-512 of the key.
    pub digest: [u8; 64],
    /// The sessions that it covers.
    pub sessions: Vec<SessionPattern>,
    /// Whether it only allows reading.
    pub access: Access,
}

/// The access that a key allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Only commands that change nothing.
    #[default]
    Read,
    /// Everything.
    Write,
}

from_words!(Access, "must be read or write", "read" => Read, "write" => Write);

impl FromStr for KeyName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Gateway {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let moments = || duration(Duration::from_millis(100)..=Duration::from_hours(1));
        let listen = section.required("listen", |value| {
            let read = text(value)?.parse().map(Some);
            read.map_err(|_| "must be an address and a port, such as 127.0.0.1:8080".to_owned())
        });
        let gateway = Self {
            listen: listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
            timeout: section.required("timeout", moments()),
            client_timeout: section.required("client_timeout", moments()),
            in_flight: section.required("in_flight", number(1..=100_000)),
            connections: section.required("connections", number(1..=1_000_000)),
            body_max: section.required("body_max", number(1_024..=16 << 20)),
            commands_kept: section.required("commands_kept", number(1..=1_000_000)),
            events_kept: section.required("events_kept", number(1..=1_000_000)),
            open: section.required("open", flag),
            keys: section.section("keys").each(key, None),
        };
        match (gateway.keys.is_empty(), gateway.open) {
            (true, false) if !gateway.listen.ip().is_loopback() => section.problem(
                "listen",
                "must be a loopback address (127.0.0.1, ::1) while no gateway.keys are configured; \
                 gateway.open = true authorises everyone without a key",
            ),
            (false, true) => {
                section.problem("open", "must be false if gateway.keys are configured");
            }
            _ => {}
        }
        section.finish();
        gateway
    }
}

fn key(_: &str, mut section: Section<'_>) -> ApiKey {
    let digest = match section.header_secret("key", "key_file") {
        None => {
            section.problem("key", "is missing (or key_file)");
            [0; 64]
        }
        Some(key) => digest(&key).unwrap_or_else(|what| {
            section.problem("key", what);
            [0; 64]
        }),
    };
    let key = ApiKey {
        digest,
        sessions: section.required("sessions", list),
        access: section.required("access", parsed),
    };
    section.finish();
    key
}

/// The SHA-512 of a key: given as the hash, or computed from the given key.
fn digest(key: &SecretString) -> Result<[u8; 64], String> {
    let key = key.expose_secret();
    match key.strip_prefix("sha512:") {
        Some(hex) => {
            from_hex(hex).ok_or_else(|| "must be 128 hexadecimal digits after sha512:".to_owned())
        }
        None if key.len() < 16 => Err("must have at least 16 characters".to_owned()),
        None => Ok(Sha512::digest(key).into()),
    }
}

fn from_hex(text: &str) -> Option<[u8; 64]> {
    let digits = text.chars().map(|digit| digit.to_digit(16));
    let digits: Vec<_> = digits.collect::<Option<_>>()?;
    let bytes = digits.chunks_exact(2).filter_map(|pair| match *pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    let bytes: Vec<_> = bytes.collect();
    (digits.len() == 128).then(|| bytes.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Error, Sources};

    fn with(settings: &[(&str, &str)]) -> Result<Config, Error> {
        let flags = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Sources {
            flags,
            ..Sources::default()
        }
        .load()
    }

    fn problems(settings: &[(&str, &str)]) -> String {
        match with(settings) {
            Err(Error::Invalid(problems)) => problems.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_keys_only_this_machine_may_come_unless_everybody_is_let_in() {
        let everywhere = ("gateway.listen", "0.0.0.0:8080");
        let said = problems(&[everywhere]);
        assert!(said.starts_with("gateway.listen:"), "{said}");
        assert!(with(&[everywhere, ("gateway.open", "true")]).is_ok());
        assert!(with(&[("gateway.listen", "[::1]:8080")]).is_ok());
        let key = [
            everywhere,
            ("gateway.keys.shop.key", "0123456789abcdef"),
            ("gateway.keys.shop.sessions", "default,shop-*"),
            ("gateway.keys.shop.access", "read"),
        ];
        let keys = with(&key).unwrap().gateway.keys;
        let shop = keys.values().next().unwrap();
        let may = |session| shop.sessions.iter().any(|it| it.fits(session));
        assert!(may("default") && may("shop-7") && !may("default2") && !may("shop"));
        assert_eq!(shop.access, Access::Read);
        let open = [&key[..], &[("gateway.open", "true")]].concat();
        assert!(problems(&open).starts_with("gateway.open:"));
    }

    #[test]
    fn a_key_may_be_given_as_its_hash() {
        let plain: [u8; 64] = Sha512::digest("correct horse battery").into();
        let digit = |half: u8| {
            char::from_digit(half.into(), 16)
                .unwrap()
                .to_ascii_uppercase()
        };
        let hex: String = plain
            .iter()
            .flat_map(|it| [digit(it >> 4), digit(it & 15)])
            .collect();
        let given = |key: &str| digest(&key.to_owned().into());
        assert_eq!(given(&format!("sha512:{hex}")), Ok(plain));
        assert_eq!(given("correct horse battery"), Ok(plain));
        assert!(given("sha512:00").is_err());
        assert!(given(&format!("sha512:{}", "zz".repeat(64))).is_err());
        assert!(given("short").is_err());
    }

    #[test]
    fn wrong_keys_are_named_and_not_shown() {
        let said = problems(&[
            ("gateway.keys.shop.key", "hunter2"),
            ("gateway.keys.shop.sessions", "a b"),
            ("gateway.keys.shop.access", "all"),
        ]);
        for key in ["key", "sessions", "access"] {
            assert!(
                said.contains(&format!("gateway.keys.shop.{key}:")),
                "{said}"
            );
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}
