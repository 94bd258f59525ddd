//! `[egress]`: outgoing HTTP requests, and the addresses they may be sent to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::read::{Section, UNESCAPED, duration, has_unescaped_credentials, list, path};

/// `[egress]`: outgoing HTTP requests, and the addresses they may be sent to.
#[derive(Debug, Clone)]
pub struct Egress {
    /// Networks that are allowed although they are not public.
    pub allow: Vec<Network>,
    /// The proxy for requests to public addresses; may contain a password.
    pub proxy: Option<SecretString>,
    /// DNS servers; empty means those of the system.
    pub dns: Vec<DnsServer>,
    /// Timeout of a connection attempt.
    pub connect_timeout: Duration,
    /// TLS.
    pub tls: EgressTls,
}

/// `[egress.tls]`: CA and client certificates.
#[derive(Debug, Clone, Default)]
pub struct EgressTls {
    /// A CA certificate to trust in addition to those of the system (PEM).
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A network or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// A DNS server; the default port is 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsServer(pub SocketAddr);

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse().ok().or_else(single);
        network
            .map(Self)
            .ok_or("must be a list of networks such as \"10.1.0.0/16\"")
    }
}

impl FromStr for DnsServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alone = || text.parse::<IpAddr>().ok().map(|ip| (ip, 53).into());
        let address = text.parse().ok().or_else(alone);
        address
            .map(Self)
            .ok_or("must be a list of addresses such as \"10.0.0.2\" or \"127.0.0.1:5353\"")
    }
}

impl Egress {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let proxy = section.secret("proxy", "proxy_file");
        let proxy_is_wrong = proxy.as_ref().is_some_and(|proxy| {
            !url::Url::parse(proxy.expose_secret()).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host()
            })
        });
        let is_unescaped = |proxy: &SecretString| has_unescaped_credentials(proxy.expose_secret());
        if proxy.as_ref().is_some_and(is_unescaped) {
            section.problem("proxy", UNESCAPED);
        } else if proxy_is_wrong {
            section.problem(
                "proxy",
                "must be http://user:password@host:port, or https://, socks5:// or socks5h://…",
            );
        }
        let timeouts = Duration::from_millis(100)..=Duration::from_mins(5);
        let egress = Self {
            allow: section.required("allow", list),
            proxy,
            dns: section.required("dns", list),
            connect_timeout: section.required("connect_timeout", duration(timeouts)),
            tls: EgressTls::read(section.section("tls")),
        };
        section.finish();
        egress
    }
}

impl EgressTls {
    fn read(mut section: Section<'_>) -> Self {
        let tls = Self {
            identity: section.identity(),
            ca_file: section.optional("ca_file", path),
        };
        section.finish();
        tls
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Error, Sources};

    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Egress, Error> {
        let flags = settings
            .iter()
            .map(|(key, value)| (format!("egress.{key}"), (*value).to_owned()))
            .collect();
        let sources = Sources {
            flags,
            ..Sources::default()
        };
        sources.load().map(|config| config.egress)
    }

    #[test]
    fn networks_and_servers_are_read_from_text() {
        let egress = read(&[
            ("allow", "10.1.0.0/16, fd12::/16, 192.168.7.7, ::1"),
            ("dns", "10.0.0.2, 127.0.0.1:5353, ::1, [::1]:5353"),
            ("proxy", "socks5h://me:word@proxy:1080"),
        ])
        .unwrap();
        let networks: Vec<_> = egress.allow.iter().map(|one| one.0.to_string()).collect();
        assert_eq!(
            networks,
            ["10.1.0.0/16", "fd12::/16", "192.168.7.7/32", "::1/128"]
        );
        let servers: Vec<_> = egress.dns.iter().map(|one| one.0.to_string()).collect();
        assert_eq!(
            servers,
            ["10.0.0.2:53", "127.0.0.1:5353", "[::1]:53", "[::1]:5353"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_key_and_never_by_value() {
        for (key, value) in [
            ("allow", "10.0.0.0/33"),
            ("allow", "example.com"),
            ("proxy", "hunter2:3128"),
            ("proxy", "ftp://me:hunter2@proxy"),
            ("dns", "dns.example.com"),
            ("connect_timeout", "7ms"),
            ("connect_timeout", "10"),
            ("proxies", "http://me:hunter2@proxy"),
        ] {
            let Err(Error::Invalid(problems)) = read(&[(key, value)]) else {
                panic!("{key} = {value} was accepted");
            };
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with(&format!("egress.{key}: ")),
                "{problems:?}"
            );
            assert!(!problems[0].contains(value), "{problems:?}");
        }
        let Err(Error::Invalid(problems)) = read(&[("tls.key_file", "/key.pem")]) else {
            panic!("a key without a certificate was accepted");
        };
        assert_eq!(
            problems,
            ["egress.tls.certificate_file: is required with key_file"]
        );
    }
}
