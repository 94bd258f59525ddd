//! Resolves a host's name to the addresses that may be connected to.
//!
//! It is called for each connection, and the connection uses the addresses that it returned: there is no
//! moment between check and use, so a name that resolves to another address the second time (DNS rebinding)
//! gains nothing. Names are cached for as long as their records say, within bounds.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use parking_lot::{Mutex, MutexGuard};
use reqwest::dns::{Addrs, Resolve, Resolving};

use crate::config::DnsServer;

use super::addresses::Policy;

/// The maximum number of cached answers.
const CACHED: u64 = 1024;
/// The longest time that an answer is cached, whatever its TTL, so that a host that moves is found.
const POSITIVE_MAX: Duration = Duration::from_hours(1);
/// The same for the answer that a name does not exist.
const NEGATIVE_MAX: Duration = Duration::from_secs(10);
/// The time limit for a DNS server's answer, and the number of attempts.
const TRY: Duration = Duration::from_secs(2);
const TRIES: usize = 2;

/// Resolves names.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    dns: Result<TokioResolver, NetError>,
    within: Duration,
    policy: Arc<Policy>,
    /// The proxy may have any address: the operator named it.
    proxy: Option<Arc<str>>,
    lookups: Lookups,
}

/// Why a name has no usable address.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// The name.
    pub(super) host: String,
    /// The reason.
    pub(super) why: Reason,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl StdError for Unresolved {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.why.source()
    }
}

/// Why a name has no usable address.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error("none of its addresses is public or in egress.allow")]
    Refused,
    #[error("the name has no address")]
    Unknown(#[source] NetError),
    #[error("DNS did not answer; see /etc/resolv.conf or egress.dns")]
    Unavailable(#[source] NetError),
    #[error("DNS did not answer in time; see /etc/resolv.conf or egress.dns")]
    Late,
}

impl Resolver {
    pub(super) fn new(
        servers: &[DnsServer],
        within: Duration,
        policy: Arc<Policy>,
        proxy: Option<Arc<str>>,
    ) -> Self {
        Self {
            dns: dns(servers),
            within,
            policy,
            proxy,
            lookups: Lookups::default(),
        }
    }

    /// The names that are being resolved.
    pub(super) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, Reason> {
        let found = match literal(host) {
            Some(ip) => vec![ip],
            None => self.look_up(host).await?,
        };
        let free = self.policy.is_open() || self.proxy.as_deref() == Some(host);
        let permitted: Vec<_> = found
            .into_iter()
            .filter(|ip| free || self.policy.permits(*ip))
            .map(|ip| SocketAddr::new(ip, 0))
            .collect();
        if permitted.is_empty() {
            return Err(Reason::Refused);
        }
        Ok(permitted)
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Reason> {
        let dns = self
            .dns
            .as_ref()
            .map_err(|error| Reason::Unavailable(error.clone()))?;
        // Names in URLs are ASCII already; some in use have characters that host names may not have (`_`).
        let name = Name::from_ascii(host).map_err(|error| Reason::Unknown(error.into()))?;
        match tokio::time::timeout(self.within, dns.lookup_ip(name)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            // No such name, or a name without addresses.
            Ok(Err(error)) if error.is_no_records_found() => Err(Reason::Unknown(error)),
            Ok(Err(error)) => Err(Reason::Unavailable(error)),
            Err(_) => Err(Reason::Late),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let _looking = resolver.lookups.begin(host);
            match resolver.addresses(host).await {
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(why) => {
                    let host = host.to_owned();
                    Err(Unresolved { host, why }.into())
                }
            }
        })
    }
}

/// An address in place of a name; SOCKS passes those on as they are in the URL.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

fn dns(servers: &[DnsServer]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|DnsServer(address)| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = TRY;
    options.attempts = TRIES;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    options.cache_size = CACHED;
    options.positive_max_ttl = Some(POSITIVE_MAX);
    options.negative_max_ttl = Some(NEGATIVE_MAX);
    options.try_tcp_on_error = true;
    builder.build()
}

/// The names that are being resolved: when a request times out, they show whether DNS is at fault.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookups(Arc<Mutex<HashMap<String, usize>>>);

struct Looking {
    lookups: Lookups,
    host: String,
}

impl Lookups {
    fn begin(&self, host: &str) -> Looking {
        let host = host.to_owned();
        *self.held().entry(host.clone()).or_default() += 1;
        Looking {
            lookups: self.clone(),
            host,
        }
    }

    /// Whether a request waits for the addresses of a name.
    pub(super) fn waits_for(&self, host: &str) -> bool {
        self.held().contains_key(host)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut held = self.lookups.held();
        if let Some(count) = held.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.host);
            }
        }
    }
}
