//! The addresses to which connections are allowed.
//!
//! The table completes the IANA special-purpose registries (IPv4 and IPv6, as of 2026) with the addresses
//! of clouds and translators. The resolver checks it at connect time, and `Outbound` checks each address
//! that is part of a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Host;

use crate::config::Network;

use super::AddressPolicy;

/// Which addresses may be connected to.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    policy: AddressPolicy,
    allow: Vec<IpNet>,
}

/// IPv4 addresses that do not belong to a public host.
const REFUSED_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),        // this network; on Linux, this host
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // shared, between a provider and its customers
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // Azure's platform, reached from its machines only
    ([169, 254, 0, 0], 16),   // link-local, with the metadata of most clouds
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments, with Oracle's metadata
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // relays from 6to4
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, with broadcast
];

/// IPv6 addresses that do not belong to a public host; IPv4-mapped ones are checked as IPv4. All public
/// ones are in `2000::/3`, as the last three rows say; the rows before them name well-known networks
/// outside of it, for the reader and the test.
const REFUSED_V6: &[([u16; 8], u8)] = &[
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments, with Teredo
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
    ([0, 0, 0, 0, 0, 0, 0, 0], 96),      // unspecified, loopback, IPv4-compatible
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), // IPv4-translated
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), // NAT64
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), // NAT64 of one's own
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),  // discarded
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), // segment routing
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),  // unique local, with AWS's and Google's metadata
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), // link-local
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), // site-local
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),  // multicast
    ([0, 0, 0, 0, 0, 0, 0, 0], 3),
    ([0x4000, 0, 0, 0, 0, 0, 0, 0], 2),
    ([0x8000, 0, 0, 0, 0, 0, 0, 0], 1),
];

impl Policy {
    pub(super) fn new(policy: AddressPolicy, allow: &[Network]) -> Self {
        Self {
            policy,
            allow: allow.iter().map(|network| network.0).collect(),
        }
    }

    /// Whether this policy permits every address.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.policy, AddressPolicy::Any)
    }

    /// Whether a URL's host may be connected to; names are checked by the resolver.
    pub(super) fn permits_host(&self, host: &Host<&str>) -> bool {
        match *host {
            Host::Domain(_) => true,
            Host::Ipv4(ip) => self.permits(ip.into()),
            Host::Ipv6(ip) => self.permits(ip.into()),
        }
    }

    /// Whether an address may be connected to.
    ///
    /// An address that embeds an IPv4 address (mapped, or translated on the way) must be permitted in both
    /// forms, so that a network that allows its translator does not open the addresses behind it.
    pub(super) fn permits(&self, ip: IpAddr) -> bool {
        if self.is_open() {
            return true;
        }
        let ip = ip.to_canonical();
        let itself = is_public(ip) || self.allow.iter().any(|network| network.contains(&ip));
        itself && embedded(ip).is_none_or(|inner| self.permits(inner.into()))
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !REFUSED_V4.iter().any(|&([a, b, c, d], length)| {
            Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length).contains(&ip)
        }),
        IpAddr::V6(ip) => !REFUSED_V6.iter().any(|&(segments, length)| {
            Ipv6Net::new_assert(Ipv6Addr::from(segments), length).contains(&ip)
        }),
    }
}

/// The IPv4 host that an IPv6 address reaches.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    let joined = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        // Loopback and unspecified only look like IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible and IPv4-translated, NAT64, 6to4.
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(joined(high, low)),
        // Teredo (RFC 4380, section 4) writes the client's address with all bits inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(joined(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
