//! The picture of a `SetGroupPicture`: fetched if it is a URL, and decoded, so that WhatsApp gets no file
//! that is none.
//!
//! URLs come from producers, so they are fetched under the rules of webhooks: public addresses and those in
//! `egress.allow`, no redirects, within a time and a size. The decoder has checked the size and the first
//! bytes of a picture in the command; here both kinds are decoded. No error contains the URL's path or query,
//! since it may be signed, nor anything of the picture.
//!
//! Called by the engines, before the change itself.

mod decodable;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::EngineError;
use crate::contract::{PICTURE_BYTES_MAX, PictureKind, PictureSource, PictureUrl, picture_digest};
use crate::outbound::{
    Answer, Failure, FailureKind, HeaderName, HeaderValue, Method, Outbound, Request,
};

/// Chosen: shorter than `executor.timeout`, of which the engine needs the rest.
const FETCHED_WITHIN: Duration = Duration::from_secs(15);

const URL: &str = "/payload/picture/url";
const DATA: &str = "/payload/picture/data";

/// Obtains pictures; one for the process.
#[derive(Debug)]
pub struct Pictures {
    outbound: Outbound,
    /// One picture is decoded at a time, since each may take 64 MiB.
    decoding: Arc<Semaphore>,
}

/// A picture that can be decoded.
pub(super) struct Picture {
    pub(super) bytes: Vec<u8>,
    pub(super) kind: PictureKind,
    /// Stands for the picture wherever the picture itself may not be.
    pub(super) digest: String,
}

impl Pictures {
    /// Those of a test, which fetches from public addresses only.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        use crate::outbound::AddressPolicy;
        let egress = crate::config::Sources::default().load().unwrap().egress;
        Self::new(Outbound::new(&egress, AddressPolicy::PublicOnly).unwrap())
    }

    /// With the client for the URLs of strangers.
    #[must_use]
    pub fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            decoding: Arc::new(Semaphore::new(1)),
        }
    }

    /// Fetches and decodes the picture.
    ///
    /// # Errors
    /// When it cannot be fetched, or is none.
    pub(super) async fn obtain(&self, source: &PictureSource) -> Result<Picture, EngineError> {
        let (path, bytes) = match source {
            PictureSource::Url(url) => (URL, self.fetch(url).await?),
            PictureSource::Data(data) => (DATA, data.bytes().unwrap_or_default()),
        };
        let kind = PictureKind::of(&bytes);
        let kind =
            kind.ok_or_else(|| invalid(path, "must be a JPEG or PNG: it begins as neither"))?;
        // Never closed: the semaphore lives as long as this.
        let permit = Arc::clone(&self.decoding).acquire_owned().await;
        let decoded = tokio::task::spawn_blocking(move || {
            // The decoder runs on even if the command is given up meanwhile.
            let _permit = permit;
            let decoded = decodable::check(kind, &bytes);
            decoded.map(|()| Picture {
                digest: picture_digest(&bytes),
                bytes,
                kind,
            })
        });
        let Ok(decoded) = decoded.await else {
            return Err(invalid(path, "cannot be decoded"));
        };
        decoded.map_err(|problem| invalid(path, problem))
    }

    async fn fetch(&self, url: &PictureUrl) -> Result<Vec<u8>, EngineError> {
        let url = url.as_str().parse();
        let url = url.map_err(|_| invalid(URL, "must be an http:// or https:// URL"))?;
        let accept = HeaderValue::from_static("image/jpeg, image/png");
        let answer = self
            .outbound
            .send(Request {
                method: Method::GET,
                url,
                headers: vec![(HeaderName::from_static("accept"), accept)],
                body: bytes::Bytes::new(),
                deadline: FETCHED_WITHIN,
                body_limit: PICTURE_BYTES_MAX,
            })
            .await
            .map_err(|failure| not_fetched(&failure))?;
        picture_in(answer)
    }
}

/// The body of an answer with a picture.
fn picture_in(answer: Answer) -> Result<Vec<u8>, EngineError> {
    let refused = |why: String| Err(invalid(URL, why));
    match answer.status {
        200..=299 if answer.truncated => refused("answers with more than 4 MiB".to_owned()),
        200..=299 => Ok(answer.body),
        300..=399 => refused(format!(
            "answers with a redirect ({}), which is not followed; give the URL that it leads to",
            answer.status
        )),
        408 | 425 | 429 | 500..=599 => Err(temporary(format!(
            "the server of the picture's URL answers {}",
            answer.status
        ))),
        status => refused(format!("answers {status} instead of a picture")),
    }
}

/// Whether a URL without an answer is wrong, or may work later.
fn not_fetched(failure: &Failure) -> EngineError {
    match failure.kind {
        FailureKind::Unusable | FailureKind::AddressRefused | FailureKind::UnknownHost => {
            invalid(URL, format!("cannot be fetched: {failure}"))
        }
        FailureKind::OwnEgress
        | FailureKind::Connect
        | FailureKind::Tls
        | FailureKind::TimedOut { .. }
        | FailureKind::Broken => temporary(format!("the picture cannot be fetched now: {failure}")),
    }
}

fn invalid(path: &'static str, reason: impl Into<String>) -> EngineError {
    EngineError::InvalidField {
        path,
        reason: reason.into(),
    }
}

/// Retried a few times and not for hours: the group's other commands wait as long, and the server may never
/// come back.
fn temporary(message: String) -> EngineError {
    EngineError::NotFetched { message }
}

#[cfg(test)]
mod tests;
