//! Authorisation by API keys, each limited to sessions and to reading or writing.
//!
//! With no keys configured, anyone who can reach the gateway is authorised, except cross-site requests from a
//! browser. Those are detected by `Sec-Fetch-Site` and `Origin`; a page whose host name was made to resolve to
//! this machine (DNS rebinding) is detected by the `Host` header.

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use sha2::{Digest, Sha512};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use url::Host;

use super::problem::{Fault, Problem};
use super::query;
use crate::config::{Access, ApiKey};
use crate::contract::SessionPattern;

/// The name of the header and of the query parameter, as in WAHA.
pub(super) const HEADER: &str = "x-api-key";

/// The API keys of the gateway.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<ApiKey>,
    /// Without keys: whether requests that do not come from this machine are accepted (`gateway.open`).
    open: bool,
}

/// What an authenticated client is authorised to do.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    /// None: all sessions.
    sessions: Option<Vec<SessionPattern>>,
    access: Access,
}

impl Keys {
    pub(super) fn new(keys: impl Iterator<Item = ApiKey>, open: bool) -> Self {
        Self {
            known: keys.collect(),
            open,
        }
    }

    /// Whether no keys are configured, so that requests need none.
    pub(super) const fn are_none(&self) -> bool {
        self.known.is_empty()
    }

    /// Authenticates a request by its key.
    pub(super) fn authenticate(&self, request: &Parts) -> Result<Grant, Problem> {
        if self.are_none() {
            return self.without_key(request);
        }
        let key = presented(&request.headers, &request.uri).ok_or_else(|| {
            refuse("Send the key in the header X-Api-Key (or the query parameter x-api-key).")
        })?;
        let known = self
            .find(key.as_bytes())
            .ok_or_else(|| refuse("The key is not configured in [gateway.keys]."))?;
        Ok(Grant {
            sessions: Some(known.sessions.clone()),
            access: known.access,
        })
    }

    /// Authorises every request except those of pages of other sites.
    fn without_key(&self, request: &Parts) -> Result<Grant, Problem> {
        let host = host(request);
        let why = if is_from_elsewhere(&request.headers, host) {
            "Cross-site requests are refused while no gateway.keys are configured."
        } else if !self.open && !host.is_some_and(is_this_machine) {
            "Without gateway.keys, only requests to localhost or a loopback address are accepted, \
             since any other host name may be that of a web page. Configure gateway.keys, or set \
             gateway.open."
        } else {
            return Ok(Grant {
                sessions: None,
                access: Access::Write,
            });
        };
        Err(Problem::new(Fault::Forbidden, why))
    }

    /// The key with this hash. Compares with all keys in constant time, so that the timing reveals nothing.
    fn find(&self, key: &[u8]) -> Option<&ApiKey> {
        let digest: [u8; 64] = Sha512::digest(key).into();
        let mut found = u32::MAX;
        for (number, known) in (0_u32..).zip(&self.known) {
            let same: Choice = known.digest.as_slice().ct_eq(digest.as_slice());
            found.conditional_assign(&number, same);
        }
        usize::try_from(found)
            .ok()
            .and_then(|at| self.known.get(at))
    }
}

fn refuse(why: &str) -> Problem {
    let challenge = HeaderValue::from_static("ApiKey realm=\"groupmq\"");
    Problem::new(Fault::Unauthorized, why).with_header(header::WWW_AUTHENTICATE, challenge)
}

fn presented(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    match headers.get(HEADER) {
        Some(key) => key.to_str().ok().map(str::to_owned),
        None => query::first(uri, HEADER),
    }
}

/// The host name and port that the client uses; in HTTP/2 it is in the request target.
fn host(request: &Parts) -> Option<&str> {
    let told = request.headers.get(header::HOST);
    let of_target = request.uri.authority().map(Authority::as_str);
    of_target.or_else(|| told?.to_str().ok())
}

/// Whether a host is a name or address of this machine only.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    match Host::parse(authority.host()) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

/// Whether a browser sent the request for a page of another site.
fn is_from_elsewhere(headers: &HeaderMap, called: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return true;
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    let site = origin.split_once("://").map(|(_, site)| site);
    site.is_none() || site != called
}

impl Grant {
    /// Checks that a session may be accessed.
    pub(super) fn authorize(&self, session: &str, access: Access) -> Result<(), Problem> {
        if access > self.access {
            let why = "The key only allows reading; this request changes something.";
            return Err(Problem::new(Fault::Forbidden, why));
        }
        if self.covers(session) {
            return Ok(());
        }
        let why = "The key does not cover this session.";
        Err(Problem::new(Fault::Forbidden, why))
    }

    /// Whether the grant covers a session.
    pub(super) fn covers(&self, session: &str) -> bool {
        let sessions = self.sessions.as_ref();
        sessions.is_none_or(|it| it.iter().any(|pattern| pattern.fits(session)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    /// Whether a gateway without keys accepts a host, given in the header or in the target.
    fn answers(open: bool, target: &str, host: Option<&str>) -> bool {
        let mut request = Request::get(target);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Keys::new(std::iter::empty(), open)
            .authenticate(&parts)
            .is_ok()
    }

    #[test]
    fn without_keys_it_answers_only_to_names_of_this_machine() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]:8080",
        ] {
            assert!(answers(false, "/api", Some(host)), "{host}");
            let target = format!("http://{host}/api");
            assert!(answers(false, &target, None), "{target}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.1:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "",
        ] {
            assert!(!answers(false, "/api", Some(host)), "{host}");
            assert!(answers(true, "/api", Some(host)), "{host}");
        }
        assert!(!answers(false, "/api", None));
        // The target has precedence over the header.
        let target = "http://evil.example/api";
        assert!(!answers(false, target, Some("localhost")));
    }

    #[test]
    fn an_own_page_may_ask_over_http_2_too() {
        let from = |origin: &str| {
            let request = Request::get("http://localhost:8080/api").header("origin", origin);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            Keys::new(std::iter::empty(), false)
                .authenticate(&parts)
                .is_ok()
        };
        assert!(from("http://localhost:8080"));
        assert!(!from("http://localhost:9000"));
    }
}
