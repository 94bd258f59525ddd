//! `groupmq healthcheck`: is the worker beside us ready?

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;

use crate::config::Config;
use crate::outbound;

use super::exit::{Exit, Failure};
use super::output;

pub(super) async fn run(config: Config) -> Result<Exit, Failure> {
    let url = format!("http://{}/readyz", reachable(config.ops.listen));
    let client = outbound::client(Duration::from_secs(5)).context("no HTTP client")?;
    let (status, body) = outbound::get(&client, &url, 16 * 1024)
        .await
        .with_context(|| format!("no worker answers at {url} (ops.listen)"))?;
    output::line(body.trim_end())?;
    Ok(if status == 200 {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// An address that listens everywhere is reached at home.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = listen.ip();
    let home = if ip.is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        ip
    };
    SocketAddr::new(home, listen.port())
}
