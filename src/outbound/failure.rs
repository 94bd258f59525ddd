//! Why there is no answer, and whether the receiver may have seen the request.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use super::answer::Answer;
use super::proxy::{Fault, Proxy, fault};
use super::resolver::{Reason, Unresolved};

type Source = Box<dyn StdError + Send + Sync>;

/// Why there is no answer.
///
/// It names the receiver only by scheme, host and port: paths and queries may be secrets.
#[derive(Debug)]
pub struct Failure {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// The answer's status and headers, if they were complete and the body was not.
    pub begun: Option<Begun>,
    to: String,
    sent: bool,
    source: Option<Source>,
}

/// The status and headers of an answer whose body broke off or timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request cannot be sent: its URL is not http or https.
    Unusable,
    /// The receiver's addresses are not public, nor in `egress.allow`.
    AddressRefused,
    /// Our own network is at fault: DNS does not answer, or the proxy is down or refuses us.
    OwnEgress,
    /// The receiver's name has no address.
    UnknownHost,
    /// No connection.
    Connect,
    /// TLS failed: no TLS, an untrusted authority, an invalid certificate. (A receiver that requires a
    /// client certificate rejects us only after the request, over HTTP/2 as [`FailureKind::Broken`].)
    Tls,
    /// The deadline passed.
    TimedOut {
        /// The receiver may have seen the request.
        sent: bool,
    },
    /// The connection broke before the answer was complete, or the answer is not HTTP.
    Broken,
}

impl FailureKind {
    /// A name for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::AddressRefused => "address-refused",
            Self::OwnEgress => "own-egress",
            Self::UnknownHost => "unknown-host",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::TimedOut { .. } => "timed-out",
            Self::Broken => "broken",
        }
    }
}

impl Failure {
    pub(super) fn new(kind: FailureKind, url: &url::Url) -> Self {
        let sent = matches!(kind, FailureKind::TimedOut { sent: true });
        Self {
            kind,
            begun: None,
            to: receiver(url),
            sent,
            source: None,
        }
    }

    /// The failure for the client's error of a request that may have been `sent`.
    pub(super) fn of(
        error: reqwest::Error,
        url: &url::Url,
        sent: bool,
        proxy: Option<&Proxy>,
    ) -> Self {
        let error = error.without_url();
        let sent = sent && !error.is_connect();
        let kind = classify(&error, url, sent, proxy);
        Self {
            kind,
            begun: None,
            to: receiver(url),
            sent,
            source: Some(Box::new(error)),
        }
    }

    /// The same, with the received part of the answer.
    pub(super) fn within(self, answer: Option<&Answer>) -> Self {
        let begun = answer.map(|answer| Begun {
            status: answer.status,
            retry_after: answer.retry_after,
        });
        Self { begun, ..self }
    }

    /// Whether the receiver may have seen the request; true if that is unknown.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// Whether the receiver is not involved in it.
    #[must_use]
    pub fn is_own_fault(&self) -> bool {
        self.kind == FailureKind::OwnEgress
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = &self.to;
        match self.kind {
            FailureKind::Unusable => write!(f, "{to} is not http:// or https:// with a host"),
            FailureKind::AddressRefused => {
                write!(f, "{to} has no address that is public or in egress.allow")
            }
            FailureKind::OwnEgress => {
                write!(f, "our own way to {to} is broken: DNS, or egress.proxy")
            }
            FailureKind::UnknownHost => write!(f, "{to} has no address in DNS"),
            FailureKind::Connect => write!(f, "{to} takes no connection"),
            FailureKind::Tls => write!(f, "no TLS with {to}"),
            FailureKind::TimedOut { sent: false } => write!(f, "no connection to {to} in time"),
            FailureKind::TimedOut { sent: true } => write!(f, "no answer from {to} in time"),
            FailureKind::Broken => write!(f, "the answer from {to} broke off, or is not HTTP"),
        }
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

fn receiver(url: &url::Url) -> String {
    let scheme = url.scheme();
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn classify(
    error: &reqwest::Error,
    url: &url::Url,
    sent: bool,
    proxy: Option<&Proxy>,
) -> FailureKind {
    if let Some(unresolved) = find::<Unresolved>(error) {
        if proxy.is_some_and(|proxy| proxy.is(&unresolved.host)) {
            return FailureKind::OwnEgress;
        }
        return match unresolved.why {
            Reason::Refused => FailureKind::AddressRefused,
            Reason::Unknown(_) => FailureKind::UnknownHost,
            Reason::Unavailable(_) | Reason::Late => FailureKind::OwnEgress,
        };
    }
    if error.is_timeout() {
        return FailureKind::TimedOut { sent };
    }
    if let Some(proxy) = proxy {
        match chain(error).find_map(fault) {
            Some(Fault::Ours) => return FailureKind::OwnEgress,
            Some(Fault::Theirs) => return FailureKind::Connect,
            // Without a tunnel, the connection is to the proxy.
            None if error.is_connect() && !proxy.tunnels(url) => return FailureKind::OwnEgress,
            None => {}
        }
    }
    if find::<rustls::Error>(error).is_some() {
        FailureKind::Tls
    } else if error.is_connect() {
        FailureKind::Connect
    } else {
        FailureKind::Broken
    }
}

fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// An error and its causes. An I/O error's `source` skips the error that it wraps, so that one is taken
/// explicitly.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let carried = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match carried {
            Some(carried) => Some(carried as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
