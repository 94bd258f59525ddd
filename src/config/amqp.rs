//! `[amqp]`: the connection to the broker.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::read::{
    Section, UNESCAPED, duration, flag, has_unescaped_credentials, list, number, path,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// `[amqp]`: the connection to the broker.
#[derive(Debug, Clone)]
pub struct Amqp {
    /// `amqp://` or `amqps://`; contains the password.
    pub url: SecretString,
    /// The file from which the URL is read again before each connection, so that a rotated password is used.
    pub url_file: Option<PathBuf>,
    /// The other nodes of the same cluster.
    pub other_hosts: Vec<Host>,
    /// Maximum number of unacknowledged commands.
    pub prefetch: u16,
    /// The AMQP heartbeat.
    pub heartbeat: Duration,
    /// Timeout of a connection attempt, and of each reply from the broker.
    pub connect_timeout: Duration,
    /// Timeout of a publisher confirm.
    pub confirm_timeout: Duration,
    /// Maximum number of published messages that are not confirmed yet.
    pub confirm_window: usize,
    /// Maximum size of an AMQP frame in bytes.
    pub frame_max: u32,
    /// Maximum size of a message that the broker accepts, in bytes.
    pub message_max: usize,
    /// The first wait between connection attempts.
    pub reconnect_min: Duration,
    /// The longest wait between connection attempts.
    pub reconnect_max: Duration,
    /// How long refusals are retried once a connection has worked.
    pub refusal_grace: Duration,
    /// TLS.
    pub tls: Tls,
}

/// Another node of the cluster; the rest of its URL is that of `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A host name or an address.
    pub name: String,
    /// The port, if it differs from that of `url`.
    pub port: Option<u16>,
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "must be a list of \"host\" or \"host:port\"";
        let url = url::Url::parse(&format!("amqp://{text}")).map_err(|_| WANTED)?;
        let name = url.host_str().ok_or(WANTED)?;
        let host = Self {
            name: name.trim_matches(['[', ']']).to_owned(),
            port: url.port(),
        };
        // User, path and query are not allowed.
        let is_all = host.to_string() == text;
        is_all.then_some(host).ok_or(WANTED)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]", self.name)?;
        } else {
            f.write_str(&self.name)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// `[amqp.tls]`: TLS of `amqps://` connections.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// A CA certificate to trust (PEM).
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Authenticate with the certificate (SASL EXTERNAL).
    pub external: bool,
}

impl Amqp {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let url_file = section.peek_path("url_file");
        let url = section.secret("url", "url_file").unwrap_or_default();
        let scheme_is_right = url::Url::parse(url.expose_secret())
            .is_ok_and(|url| matches!(url.scheme(), "amqp" | "amqps") && url.has_host());
        if has_unescaped_credentials(url.expose_secret()) {
            section.problem("url", UNESCAPED);
        } else if !scheme_is_right {
            section.problem(
                "url",
                "must be amqp://user:password@host:port/vhost, or amqps://…",
            );
        }
        let amqp = Self {
            url,
            url_file,
            other_hosts: section.required("other_hosts", list),
            prefetch: section.required("prefetch", number(1..=10_000)),
            heartbeat: section.required("heartbeat", duration(SECOND..=HOUR)),
            connect_timeout: section.required("connect_timeout", duration(SECOND..=HOUR)),
            confirm_timeout: section.required("confirm_timeout", duration(SECOND..=HOUR)),
            confirm_window: section.required("confirm_window", number(1..=65_536)),
            frame_max: section.required("frame_max", number(8_192..=1_048_576)),
            message_max: section.required("message_max", number(131_072..=536_870_912)),
            reconnect_min: section
                .required("reconnect_min", duration(Duration::from_millis(10)..=HOUR)),
            reconnect_max: section
                .required("reconnect_max", duration(Duration::from_millis(10)..=HOUR)),
            refusal_grace: section.required("refusal_grace", duration(Duration::ZERO..=HOUR)),
            tls: Tls::read(section.section("tls")),
        };
        if amqp.reconnect_max < amqp.reconnect_min {
            section.problem("reconnect_max", "must not be shorter than reconnect_min");
        }
        section.finish();
        amqp
    }
}

impl Tls {
    fn read(mut section: Section<'_>) -> Self {
        let identity = section.identity();
        let external = section.required("external", flag);
        if external && identity.is_none() {
            section.problem("external", "requires certificate_file and key_file");
        }
        let tls = Self {
            ca_file: section.optional("ca_file", path),
            identity,
            external,
        };
        section.finish();
        tls
    }
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn another_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (text, name, port) in [
            ("rabbit-1.example", "rabbit-1.example", None),
            ("rabbit-1:5673", "rabbit-1", Some(5673)),
            ("10.0.0.7:5673", "10.0.0.7", Some(5673)),
            ("[::1]:5673", "::1", Some(5673)),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.name.as_str(), host.port), (name, port));
            assert_eq!(host.to_string(), text);
        }
        for wrong in [
            "",
            "a b",
            "u:p@host",
            "host/vhost",
            "host?x=1",
            "host:x",
            "amqp://host",
        ] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }
}
