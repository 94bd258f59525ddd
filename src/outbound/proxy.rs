//! The proxy for requests, and who is at fault when it makes no connection.

use std::error::Error as StdError;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use secrecy::{ExposeSecret, SecretString};
use tower_service::Service;
use url::Url;

use super::Error;

// The crate makes these public without a name.
type TunnelFault = <Tunnel<HttpConnector> as Service<Uri>>::Error;
type SocksFault = <SocksV5<HttpConnector> as Service<Uri>>::Error;

/// The proxy for requests.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    host: Arc<str>,
    socks: bool,
}

/// Who is at fault when a proxy makes no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The proxy cannot be reached, or refuses us.
    Ours,
    /// The proxy reports that it cannot reach the receiver.
    Theirs,
}

impl Proxy {
    /// Reads the setting into the client's proxy and our record of it.
    pub(super) fn new(setting: &SecretString) -> Result<(Self, reqwest::Proxy), Error> {
        let url = Url::parse(setting.expose_secret()).map_err(|_| Error::Proxy)?;
        let host = url.host_str().ok_or(Error::Proxy)?.into();
        let socks = url.scheme().starts_with("socks");
        let client = reqwest::Proxy::all(url).map_err(|_| Error::Proxy)?;
        Ok((Self { host, socks }, client))
    }

    /// Its host name.
    pub(super) fn name(&self) -> &str {
        &self.host
    }

    /// Its host name, shared.
    pub(super) fn host(&self) -> Arc<str> {
        self.host.clone()
    }

    /// Whether this is its host name.
    pub(super) fn is(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host)
    }

    /// Whether it opens a tunnel to the receiver, instead of forwarding requests.
    pub(super) fn tunnels(&self, url: &Url) -> bool {
        self.socks || url.scheme() == "https"
    }

    /// Whether an answer is the proxy's own: it requires authentication.
    pub(super) fn answered(&self, url: &Url, status: u16) -> bool {
        status == 407 && !self.tunnels(url)
    }
}

/// Who is at fault, if an error is one of a proxy.
pub(super) fn fault(error: &(dyn StdError + 'static)) -> Option<Fault> {
    if let Some(tunnel) = error.downcast_ref::<TunnelFault>() {
        return Some(match tunnel {
            TunnelFault::TunnelUnsuccessful => Fault::Theirs,
            _ => Fault::Ours,
        });
    }
    let socks = error.downcast_ref::<SocksFault>()?;
    Some(match socks {
        SocksFault::V5(_) => Fault::Theirs,
        _ => Fault::Ours,
    })
}
