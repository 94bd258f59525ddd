//! Who may do what: API keys, each confined to sessions and to reading or writing.
//!
//! Without keys everybody may who reaches the gateway, except pages of other sites in somebody's
//! browser.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use sha2::{Digest, Sha512};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::problem::{Fault, Problem};
use super::query;
use crate::config::{Access, Key};
use crate::contract::SessionPattern;

/// WAHA's name for the header, and for the parameter.
pub(super) const HEADER: &str = "x-api-key";

/// The keys that open the gateway.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

/// What somebody may do who has been let in.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// None: all sessions.
    sessions: Option<Vec<SessionPattern>>,
    access: Access,
}

impl Keys {
    pub(super) fn new(keys: impl Iterator<Item = Key>) -> Self {
        Self(keys.collect())
    }

    /// Whether everybody may do everything.
    pub(super) const fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at the key of a request.
    pub(super) fn admit(&self, request: &Parts) -> Result<Pass, Problem> {
        if self.is_open() {
            return if is_from_elsewhere(&request.headers) {
                let why = "Pages of other sites may not use a gateway that asks for no key.";
                Err(Problem::of(Fault::Forbidden, why))
            } else {
                Ok(Pass {
                    sessions: None,
                    access: Access::Write,
                })
            };
        }
        let key = presented(&request.headers, &request.uri).ok_or_else(|| {
            refuse("Send the key in the header X-Api-Key (or the parameter x-api-key).")
        })?;
        let known = self.find(key.as_bytes()).ok_or_else(|| {
            refuse("The key is none of those in [gateway.keys] of the configuration.")
        })?;
        Ok(Pass {
            sessions: Some(known.sessions.clone()),
            access: known.access,
        })
    }

    /// The key with this hash. All are looked at, whole, so that the time tells nothing.
    fn find(&self, key: &[u8]) -> Option<&Key> {
        let digest: [u8; 64] = Sha512::digest(key).into();
        let mut found = u32::MAX;
        for (number, known) in (0_u32..).zip(&self.0) {
            let same: Choice = known.digest.as_slice().ct_eq(digest.as_slice());
            found.conditional_assign(&number, same);
        }
        usize::try_from(found).ok().and_then(|at| self.0.get(at))
    }
}

fn refuse(why: &str) -> Problem {
    let challenge = HeaderValue::from_static("ApiKey realm=\"groupmq\"");
    Problem::of(Fault::Unauthorized, why).with(header::WWW_AUTHENTICATE, challenge)
}

fn presented(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    match headers.get(HEADER) {
        Some(key) => key.to_str().ok().map(str::to_owned),
        None => query::first(uri, HEADER),
    }
}

/// Whether a browser says that a page of another site made the request.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return true;
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != text("host")
}

impl Pass {
    /// Whether so much may be done with a session.
    pub(super) fn opens(&self, session: &str, access: Access) -> Result<(), Problem> {
        if access > self.access {
            let why = "The key is for reading; this changes something.";
            return Err(Problem::of(Fault::Forbidden, why));
        }
        if self.sees(session) {
            return Ok(());
        }
        let why = "The key is not for this session.";
        Err(Problem::of(Fault::Forbidden, why))
    }

    /// Whether it is for this session.
    pub(super) fn sees(&self, session: &str) -> bool {
        let sessions = self.sessions.as_ref();
        sessions.is_none_or(|it| it.iter().any(|pattern| pattern.fits(session)))
    }
}
