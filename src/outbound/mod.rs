//! The one HTTP client: every HTTP request of this process is sent here.
//!
//! Each request has one deadline, from the DNS lookup to the last byte of the answer. Answers are read up
//! to a size, redirects are returned as answers, proxies from the environment are ignored, and connections
//! are pooled (HTTP/2 if the receiver supports it). With [`AddressPolicy::PublicOnly`] only public
//! addresses are connected to: `addresses` has the table, and `resolver` checks it at connect time.
//!
//! Called by the webhooks and for pictures (which call public servers), and by the callers of servers that the operator
//! named: the `waha` engine and `groupmq healthcheck`. The callers interpret answers and decide about
//! retries: nothing is repeated here, except that a pooled connection that was closed meanwhile is replaced
//! before anything was written.

mod addresses;
mod answer;
mod body;
mod failure;
mod proxy;
mod resolver;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::redirect::Policy as Redirects;
use url::{Host, Url};

use crate::clock::{Clock, SystemClock};
use crate::config;

use addresses::Policy;
use body::{Sent, Watched};
use proxy::Proxy;
use resolver::{Lookups, Resolver};

pub use answer::{Answer, RETRY_AFTER_MAX};
pub use failure::{Begun, Failure, FailureKind};
pub use http::{HeaderName, HeaderValue, Method};

/// The `User-Agent` header.
const USER_AGENT: &str = concat!("groupmq/", env!("CARGO_PKG_VERSION"));
/// The number of pooled connections to a host, and how long they are kept idle.
const IDLE_PER_HOST: usize = 32;
const IDLE_FOR: Duration = Duration::from_mins(1);
/// HTTP/2: the maximum size of an answer's headers; the flow-control windows; and the silence after which a
/// connection with open requests is pinged, since a dead one would fail all of its requests.
const HEADERS_MAX: u32 = 64 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const ALIVE: Duration = Duration::from_secs(5);
/// HTTP/1: the maximum number of an answer's headers.
const HEADER_COUNT: usize = 100;

/// Sends requests. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    policy: Arc<Policy>,
    proxy: Option<Proxy>,
    lookups: Lookups,
}

/// The addresses to which requests may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Public addresses and those in `egress.allow`, through `egress.proxy` if it is set.
    PublicOnly,
    /// Every address, directly: the operator configured it.
    Any,
}

/// One request.
pub struct Request {
    /// The method, usually `POST`.
    pub method: Method,
    /// `http://` or `https://`. User and password become a header.
    pub url: Url,
    /// Headers in addition to those that the client sets. All of them are treated as secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// The time limit for everything, from DNS to the answer's last byte.
    pub deadline: Duration,
    /// The maximum number of bytes of the answer's body that are read.
    pub body_limit: usize,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PEM file does not exist, or is invalid.
    #[error("egress.tls.{key}: cannot read {}", path.display())]
    Unreadable {
        /// The setting that named it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificates and keys cannot be used, or do not belong together.
    #[error("egress.tls.{key} cannot be used")]
    Tls {
        /// The setting.
        key: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The proxy's URL cannot be used; it may hold a password, so the error does not quote it.
    #[error("egress.proxy cannot be used")]
    Proxy,
    /// The client cannot be made.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Outbound {
    /// Makes a client with its own connections.
    ///
    /// # Errors
    /// When a certificate or the proxy cannot be used.
    pub fn new(settings: &config::Egress, reach: AddressPolicy) -> Result<Self, Error> {
        Self::with_pool(settings, reach, IDLE_PER_HOST)
    }

    /// Makes a client for one server that the operator named, which keeps this number of connections.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn to_one_server(settings: &config::Egress, connections: usize) -> Result<Self, Error> {
        Self::with_pool(settings, AddressPolicy::Any, connections)
    }

    fn with_pool(
        settings: &config::Egress,
        reach: AddressPolicy,
        idle_per_host: usize,
    ) -> Result<Self, Error> {
        let policy = Arc::new(Policy::new(reach, &settings.allow));
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Redirects::none())
            .referer(false)
            // No proxies of the environment; ours is added below.
            .no_proxy()
            .tls_backend_preconfigured(tls::config(&settings.tls)?)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(idle_per_host)
            .http1_max_headers(HEADER_COUNT)
            .http2_max_header_list_size(HEADERS_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(ALIVE)
            .http2_keep_alive_timeout(ALIVE);
        let mut proxy = None;
        if let (AddressPolicy::PublicOnly, Some(setting)) = (reach, &settings.proxy) {
            let (ours, theirs) = Proxy::new(setting)?;
            builder = builder.proxy(theirs);
            proxy = Some(ours);
        }
        let resolver = Resolver::new(
            &settings.dns,
            settings.connect_timeout / 2,
            policy.clone(),
            proxy.as_ref().map(Proxy::host),
        );
        let lookups = resolver.lookups().clone();
        let client = builder
            .dns_resolver(resolver)
            .build()
            .map_err(|error| Error::Client(error.into()))?;
        Ok(Self {
            client,
            policy,
            proxy,
            lookups,
        })
    }

    /// Sends a request and reads the answer.
    ///
    /// Dropping the future aborts the request: the receiver may have seen it.
    ///
    /// # Errors
    /// When there is no complete answer within the request's deadline.
    pub async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let url = request.url.clone();
        self.check(&url).map_err(|kind| Failure::new(kind, &url))?;
        let deadline = request.deadline;
        let sent = Sent::default();
        let mut begun = None;
        let failure = {
            let mut exchange = pin!(self.exchange(request, sent.clone(), &mut begun));
            match tokio::time::timeout(deadline, &mut exchange).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    let proxy = self.proxy.as_ref();
                    Some(Failure::of(error, &url, sent.maybe(), proxy))
                }
                // The request is still alive here, and so is the lookup that it waits for.
                Err(_) if !sent.maybe() && self.waits_for_dns(&url) => {
                    Some(Failure::new(FailureKind::OwnEgress, &url))
                }
                Err(_) => {
                    let sent = sent.maybe();
                    Some(Failure::new(FailureKind::TimedOut { sent }, &url))
                }
            }
        };
        match (begun, failure) {
            (Some(answer), _) if self.is_the_proxys(&url, answer.status) => {
                Err(Failure::new(FailureKind::OwnEgress, &url))
            }
            (Some(answer), None) => Ok(answer),
            (begun, failure) => {
                let failure = failure.unwrap_or_else(|| Failure::new(FailureKind::Broken, &url));
                Err(failure.within(begun.as_ref()))
            }
        }
    }

    /// Sends a request, and reads its answer into `begun`, which holds the received part.
    async fn exchange(
        &self,
        request: Request,
        sent: Sent,
        begun: &mut Option<Answer>,
    ) -> Result<(), reqwest::Error> {
        let mut headers = HeaderMap::with_capacity(request.headers.len() + 1);
        if request.body.is_empty() && !matches!(request.method, Method::GET | Method::HEAD) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        for (name, mut value) in request.headers {
            // Hidden from `Debug` output and from HTTP/2's header tables.
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let response = self
            .client
            .request(request.method, request.url)
            .headers(headers)
            .body(reqwest::Body::wrap(Watched::new(request.body, sent)))
            .send()
            .await?;
        let answer = begun.insert(answer::begin(&response, SystemClock.now()));
        answer::fill(answer, response, request.body_limit).await
    }

    /// The checks that need neither a lookup nor a connection.
    fn check(&self, url: &Url) -> Result<(), FailureKind> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FailureKind::Unusable);
        }
        let host = url.host().ok_or(FailureKind::Unusable)?;
        // The resolver permits the proxy's name, so requests may not use it.
        let is_the_proxy = self.proxy.as_ref().is_some_and(|proxy| match host {
            Host::Domain(name) => proxy.is(name),
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        });
        if is_the_proxy || !self.policy.permits_host(&host) {
            return Err(FailureKind::AddressRefused);
        }
        Ok(())
    }

    fn is_the_proxys(&self, url: &Url, status: u16) -> bool {
        self.proxy
            .as_ref()
            .is_some_and(|proxy| proxy.answered(url, status))
    }

    fn waits_for_dns(&self, url: &Url) -> bool {
        let hosts = [url.host_str(), self.proxy.as_ref().map(Proxy::name)];
        hosts
            .into_iter()
            .flatten()
            .any(|host| self.lookups.waits_for(host))
    }
}

/// The TLS settings of [`Outbound`] for a WebSocket: over HTTP/1.1.
///
/// # Errors
/// When a certificate cannot be used.
pub fn websocket_tls(settings: &config::Egress) -> Result<Arc<rustls::ClientConfig>, Error> {
    let mut config = tls::config(&settings.tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows the proxy's password.
        f.debug_struct("Outbound")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("body", &self.body.len())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
