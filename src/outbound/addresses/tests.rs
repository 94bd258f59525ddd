//! The table row by row, at its edges; and every spelling of the refused addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use url::{Host, Url};

use super::*;

/// A refused network, and whether the addresses right before and right after it are public; none if there
/// is no such address.
const EDGES: &[(&str, Option<bool>, Option<bool>)] = &[
    ("0.0.0.0/8", None, Some(true)),
    ("10.0.0.0/8", Some(true), Some(true)),
    ("100.64.0.0/10", Some(true), Some(true)),
    ("127.0.0.0/8", Some(true), Some(true)),
    ("168.63.129.16/32", Some(true), Some(true)),
    ("169.254.0.0/16", Some(true), Some(true)),
    ("172.16.0.0/12", Some(true), Some(true)),
    ("192.0.0.0/24", Some(true), Some(true)),
    ("192.0.2.0/24", Some(true), Some(true)),
    ("192.88.99.0/24", Some(true), Some(true)),
    ("192.168.0.0/16", Some(true), Some(true)),
    ("198.18.0.0/15", Some(true), Some(true)),
    ("198.51.100.0/24", Some(true), Some(true)),
    ("203.0.113.0/24", Some(true), Some(true)),
    ("224.0.0.0/4", Some(true), Some(false)),
    ("240.0.0.0/4", Some(false), None),
    ("2001::/23", Some(true), Some(true)),
    ("2001:db8::/32", Some(true), Some(true)),
    ("2002::/16", Some(true), Some(true)),
    ("3fff::/20", Some(true), Some(true)),
    ("::/96", None, Some(false)),
    ("::ffff:0:0:0/96", Some(false), Some(false)),
    ("64:ff9b::/96", Some(false), Some(false)),
    ("64:ff9b:1::/48", Some(false), Some(false)),
    ("100::/64", Some(false), Some(false)),
    ("5f00::/16", Some(false), Some(false)),
    ("fc00::/7", Some(false), Some(false)),
    ("fe80::/10", Some(false), Some(false)),
    ("fec0::/10", Some(false), Some(false)),
    ("ff00::/8", Some(false), None),
    ("::/3", None, Some(true)),
    ("4000::/2", Some(true), Some(false)),
    ("8000::/1", Some(false), None),
];

/// Single hosts that attackers try.
const WANTED: &[&str] = &[
    "0.0.0.0",
    "127.0.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
];

fn public() -> Policy {
    Policy::new(AddressPolicy::PublicOnly, &[])
}

fn allowing(networks: &[&str]) -> Policy {
    let networks: Vec<Network> = networks.iter().map(|text| text.parse().unwrap()).collect();
    Policy::new(AddressPolicy::PublicOnly, &networks)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The address at this distance.
fn at_distance(ip: IpAddr, step: i128) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let number = i128::from(u32::from(ip)) + step;
            Ipv4Addr::from(u32::try_from(number).unwrap()).into()
        }
        IpAddr::V6(ip) => {
            let number = u128::from(ip).checked_add_signed(step).unwrap();
            Ipv6Addr::from(number).into()
        }
    }
}

#[test]
fn each_refused_network_ends_where_it_says() {
    let policy = public();
    for (text, before, after) in EDGES {
        let network: IpNet = text.parse().unwrap();
        let (first, last) = (network.network(), network.broadcast());
        assert!(!policy.permits(first), "{text}: its first, {first}");
        assert!(!policy.permits(last), "{text}: its last, {last}");
        if let Some(public) = before {
            let outside = at_distance(first, -1);
            assert_eq!(
                policy.permits(outside),
                *public,
                "{text}: before, {outside}"
            );
        }
        if let Some(public) = after {
            let outside = at_distance(last, 1);
            assert_eq!(policy.permits(outside), *public, "{text}: after, {outside}");
        }
    }
}

#[test]
fn every_row_of_the_table_is_tested_at_its_edges() {
    let tested: BTreeSet<IpNet> = EDGES
        .iter()
        .map(|(text, ..)| text.parse().unwrap())
        .collect();
    let v4 = REFUSED_V4
        .iter()
        .map(|&(address, length)| IpNet::new(IpAddr::from(address), length).unwrap());
    let v6 = REFUSED_V6
        .iter()
        .map(|&(address, length)| IpNet::new(IpAddr::from(address), length).unwrap());
    assert_eq!(tested, v4.chain(v6).collect());
}

#[test]
fn the_hosts_that_attackers_want_are_refused() {
    let policy = public();
    for text in WANTED {
        assert!(!policy.permits(ip(text)), "{text}");
    }
}

#[test]
fn public_hosts_are_permitted() {
    let policy = public();
    for text in [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
    ] {
        assert!(policy.permits(ip(text)), "{text}");
    }
}

#[test]
fn a_network_is_allowed_and_its_neighbours_are_not() {
    let policy = allowing(&["10.1.0.0/16", "fd12:3456::/32", "192.168.7.7"]);
    for text in [
        "10.1.0.0",
        "10.1.255.255",
        "::ffff:10.1.2.3",
        "fd12:3456::1",
        "192.168.7.7",
    ] {
        assert!(policy.permits(ip(text)), "{text}");
    }
    for text in [
        "10.0.255.255",
        "10.2.0.0",
        "fd12:3457::",
        "192.168.7.8",
        "127.0.0.1",
    ] {
        assert!(!policy.permits(ip(text)), "{text}");
    }
}

#[test]
fn an_allowed_translator_opens_only_what_is_open_behind_it() {
    let policy = allowing(&["64:ff9b::/96", "2002::/16", "2001::/32", "10.1.0.0/16"]);
    for text in ["64:ff9b::8.8.8.8", "64:ff9b::10.1.2.3", "2002:808:808::1"] {
        assert!(policy.permits(ip(text)), "{text}");
    }
    for text in [
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.2.0.1",
        "2002:7f00:1::",
        // 10.2.0.1, all bits inverted.
        "2001:0:4136:e378:8000:63bf:f5fd:fffe",
    ] {
        assert!(!policy.permits(ip(text)), "{text}");
    }
}

#[test]
fn anywhere_is_anywhere() {
    let policy = Policy::new(AddressPolicy::Any, &[]);
    for text in WANTED {
        assert!(policy.permits(ip(text)), "{text}");
    }
}

/// The notations of an IPv4 address in URLs.
fn spellings_v4(ip: Ipv4Addr, style: (u8, u8, u8)) -> String {
    let number = |value: u32, style: u8| match style % 5 {
        0 => format!("{value}"),
        1 => format!("0x{value:x}"),
        2 => format!("0X{value:X}"),
        3 => format!("0{value:o}"),
        _ => format!("0x000{value:x}"),
    };
    let [a, b, c, d] = ip.octets().map(u32::from);
    let (parts, numbers, whole) = style;
    let parts = match parts % 4 {
        0 => vec![a, b, c, d],
        1 => vec![a, b, (c << 8) | d],
        2 => vec![a, (b << 16) | (c << 8) | d],
        _ => vec![u32::from(ip)],
    };
    let mut text = parts
        .iter()
        .enumerate()
        .map(|(place, part)| number(*part, numbers.wrapping_add(u8::try_from(place).unwrap())))
        .collect::<Vec<_>>()
        .join(".");
    match whole % 6 {
        1 => text.push('.'),
        // Percent-encoded, in full width, with ideographic stops, as an IPv6 address.
        2 => {
            let encoded: Vec<_> = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            text = encoded.concat();
        }
        3 => {
            text = text
                .chars()
                .map(|c| {
                    if c == '.' {
                        c
                    } else {
                        char::from_u32(c as u32 + 0xfee0).unwrap()
                    }
                })
                .collect();
        }
        4 => text = text.replace('.', "\u{3002}"),
        5 => text = format!("[{}]", ip.to_ipv6_mapped()),
        _ => {}
    }
    text
}

/// The notations of an IPv6 address in URLs.
fn spellings_v6(ip: Ipv6Addr, style: u8) -> String {
    let segments = ip.segments();
    match style % 4 {
        0 => format!("[{ip}]"),
        1 => format!(
            "[{}]",
            segments.map(|segment| format!("{segment:04X}")).join(":")
        ),
        2 => format!(
            "[{}]",
            segments.map(|segment| format!("{segment:x}")).join(":")
        ),
        _ => {
            let [a, b, c, d] = [
                segments[6] >> 8,
                segments[6] & 255,
                segments[7] >> 8,
                segments[7] & 255,
            ];
            let head: Vec<_> = segments
                .iter()
                .take(6)
                .map(|segment| format!("{segment:x}"))
                .collect();
            format!("[{}:{a}.{b}.{c}.{d}]", head.join(":"))
        }
    }
}

proptest! {
    #[test]
    fn no_refused_ipv4_address_passes_whatever_its_spelling(
        (row, bits) in (0..REFUSED_V4.len(), any::<u32>()),
        style in any::<(u8, u8, u8)>(),
    ) {
        let (network, length) = REFUSED_V4[row];
        let host_bits = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::from(network)) | (bits & host_bits));
        let text = spellings_v4(ip, style);
        let url = Url::parse(&format!("http://{text}/")).unwrap();
        let host = url.host().unwrap();
        prop_assert!(!matches!(host, Host::Domain(_)), "{text} is taken for a name: {host}");
        prop_assert!(!public().permits_host(&host), "{text} is {host}");
        // A resolver may answer with any of these.
        prop_assert!(!public().permits(ip.into()));
        prop_assert!(!public().permits(ip.to_ipv6_mapped().into()));
        prop_assert!(!public().permits(ip.to_ipv6_compatible().into()));
    }

    #[test]
    fn no_refused_ipv6_address_passes_whatever_its_spelling(
        (row, bits) in (0..REFUSED_V6.len(), any::<u128>()),
        style in any::<u8>(),
    ) {
        let (network, length) = REFUSED_V6[row];
        let host_bits = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        let ip = Ipv6Addr::from(u128::from(Ipv6Addr::from(network)) | (bits & host_bits));
        // Mapped ones are IPv4.
        prop_assume!(ip.to_ipv4_mapped().is_none());
        let text = spellings_v6(ip, style);
        let url = Url::parse(&format!("https://{text}/")).unwrap();
        prop_assert!(!public().permits_host(&url.host().unwrap()), "{text}");
    }

    #[test]
    fn a_mapped_address_is_judged_as_what_it_stands_for(bits in any::<u32>()) {
        let ip = Ipv4Addr::from(bits);
        prop_assert_eq!(
            public().permits(ip.to_ipv6_mapped().into()),
            public().permits(ip.into())
        );
    }
}
