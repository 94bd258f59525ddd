//! The HTTP client against real servers on loopback: hostile receivers, DNS that lies or is away,
//! proxies, TLS, and connections that are used again.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test with the error"
)]

mod connections;
mod dns;
mod hostile;
mod names;
mod proxies;
mod servers;

use std::time::Duration;

use groupmq::config::{Egress, Sources};
use groupmq::outbound::{AddressPolicy, Answer, Failure, Method, Outbound, Request};

/// Longer than anything takes that is not meant to last.
const AMPLE: Duration = Duration::from_secs(30);
/// For what never ends: long enough for a request to leave a busy machine.
const SHORT: Duration = Duration::from_secs(2);
/// Bytes of a body that are read.
const LIMIT: usize = 16 * 1024;

/// `[egress]` with these settings, read as the binary reads them.
fn egress(settings: &[(&str, &str)]) -> Egress {
    let flags = settings
        .iter()
        .map(|(key, value)| (format!("egress.{key}"), (*value).to_owned()))
        .collect();
    let sources = Sources {
        flags,
        ..Sources::default()
    };
    sources.load().unwrap().egress
}

/// A client for the public, with these settings.
fn client(settings: &[(&str, &str)]) -> Outbound {
    Outbound::new(&egress(settings), AddressPolicy::PublicOnly).unwrap()
}

/// A client that may also go to servers on this machine's first address.
fn local() -> Outbound {
    client(&[("allow", "127.0.0.1")])
}

/// A POST with a body.
fn post(url: &str, deadline: Duration) -> Request {
    Request {
        method: Method::POST,
        url: url.parse().unwrap(),
        headers: Vec::new(),
        body: "{\"hello\":\"world\"}".into(),
        deadline,
        body_limit: LIMIT,
    }
}

/// A POST without a body.
fn empty(url: &str, deadline: Duration) -> Request {
    Request {
        body: Vec::new().into(),
        ..post(url, deadline)
    }
}

async fn answered(client: &Outbound, url: &str) -> Answer {
    let result = client.send(post(url, AMPLE)).await;
    result.unwrap_or_else(|failure| panic!("{}", whole(&failure)))
}

async fn failed(client: &Outbound, url: &str, deadline: Duration) -> Failure {
    match client.send(post(url, deadline)).await {
        Ok(answer) => panic!("{url} answered {answer:?}"),
        Err(failure) => failure,
    }
}

/// An error with all its causes, as logs show it.
fn whole(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
