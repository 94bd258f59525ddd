//! `groupmq healthcheck`: query the readiness of the process on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;

use crate::config::Config;
use crate::outbound::{AddressPolicy, Method, Outbound, Request};

use super::exit::{Exit, Failure};
use super::output;

pub(super) async fn run(config: Config) -> Result<Exit, Failure> {
    let url = format!("http://{}/readyz", reachable(config.ops.listen));
    let client = Outbound::new(&config.egress, AddressPolicy::Any)
        .context("cannot create an HTTP client")?;
    let request = Request {
        method: Method::GET,
        url: url.parse().context("ops.listen is not usable in a URL")?,
        headers: Vec::new(),
        body: Bytes::new(),
        deadline: Duration::from_secs(5),
        body_limit: 16 * 1024,
    };
    let answer = client
        .send(request)
        .await
        .with_context(|| format!("no process answers at {url} (ops.listen)"))?;
    output::line(answer.text().trim_end())?;
    Ok(if answer.status == 200 {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// Replaces an unspecified address (0.0.0.0, ::), which cannot be connected to, by the loopback address.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = listen.ip();
    let home = if ip.is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        ip
    };
    SocketAddr::new(home, listen.port())
}
