//! Who may do what: API keys, each confined to sessions and to reading or writing.
//!
//! Without keys everybody may who reaches the gateway, except pages of other sites in somebody's
//! browser; those say where they come from, or, where their site's name was made to lead to this
//! machine, they call the gateway by that name.

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use sha2::{Digest, Sha512};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use url::Host;

use super::problem::{Fault, Problem};
use super::query;
use crate::config::{Access, Key};
use crate::contract::SessionPattern;

/// WAHA's name for the header, and for the parameter.
pub(super) const HEADER: &str = "x-api-key";

/// The keys that open the gateway.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<Key>,
    /// Without keys, others than this machine may come too.
    open: bool,
}

/// What somebody may do who has been let in.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    /// None: all sessions.
    sessions: Option<Vec<SessionPattern>>,
    access: Access,
}

impl Keys {
    pub(super) fn new(keys: impl Iterator<Item = Key>, open: bool) -> Self {
        Self {
            known: keys.collect(),
            open,
        }
    }

    /// Whether there are none, so that nobody has to have one.
    pub(super) const fn are_none(&self) -> bool {
        self.known.is_empty()
    }

    /// Looks at the key of a request.
    pub(super) fn authenticate(&self, request: &Parts) -> Result<Grant, Problem> {
        if self.are_none() {
            return self.without_key(request);
        }
        let key = presented(&request.headers, &request.uri).ok_or_else(|| {
            refuse("Send the key in the header X-Api-Key (or the parameter x-api-key).")
        })?;
        let known = self.find(key.as_bytes()).ok_or_else(|| {
            refuse("The key is none of those in [gateway.keys] of the configuration.")
        })?;
        Ok(Grant {
            sessions: Some(known.sessions.clone()),
            access: known.access,
        })
    }

    /// Lets everybody in but the pages of other sites.
    fn without_key(&self, request: &Parts) -> Result<Grant, Problem> {
        let host = host(request);
        let why = if is_from_elsewhere(&request.headers, host) {
            "Pages of other sites may not use a gateway that asks for no key."
        } else if !self.open && !host.is_some_and(is_this_machine) {
            "A gateway that asks for no key has to be called by localhost or by a loopback address, \
             since any other name may be that of a page's site. Let it ask for keys, or set \
             gateway.open."
        } else {
            return Ok(Grant {
                sessions: None,
                access: Access::Write,
            });
        };
        Err(Problem::new(Fault::Forbidden, why))
    }

    /// The key with this hash. All are looked at, whole, so that the time tells nothing.
    fn find(&self, key: &[u8]) -> Option<&Key> {
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

/// What the client calls the gateway, with the port; HTTP/2 says it in the request's target.
fn host(request: &Parts) -> Option<&str> {
    let told = request.headers.get(header::HOST);
    let of_target = request.uri.authority().map(Authority::as_str);
    of_target.or_else(|| told?.to_str().ok())
}

/// Whether a host is a name that leads nowhere but here.
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

/// Whether a browser says that a page of another site made the request.
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
    /// Whether so much may be done with a session.
    pub(super) fn authorize(&self, session: &str, access: Access) -> Result<(), Problem> {
        if access > self.access {
            let why = "The key is for reading; this changes something.";
            return Err(Problem::new(Fault::Forbidden, why));
        }
        if self.covers(session) {
            return Ok(());
        }
        let why = "The key is not for this session.";
        Err(Problem::new(Fault::Forbidden, why))
    }

    /// Whether it is for this session.
    pub(super) fn covers(&self, session: &str) -> bool {
        let sessions = self.sessions.as_ref();
        sessions.is_none_or(|it| it.iter().any(|pattern| pattern.fits(session)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    /// Whether a gateway without keys answers to a host, named in a header or in the target.
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
        // The target counts where both say something.
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
