//! What the handlers of all requests share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::access::Keys;
use super::calls::Calls;
use super::live::hub::Hub;
use super::problem::{Fault, Problem};
use crate::executor::decode::Decoder;
use crate::lifecycle::Lifecycle;
use crate::observability::trace::Tracer;
use crate::store::ledger::Ledger;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) keys: Keys,
    pub(super) calls: Calls,
    pub(super) ledger: Ledger,
    pub(super) decoder: Decoder,
    pub(super) hub: Arc<Hub>,
    pub(super) client_timeout: Duration,
    pub(super) lifecycle: Lifecycle,
    pub(super) tracer: Tracer,
}

/// The decoded parameters of a request's path.
pub(super) async fn path(parts: &mut Parts) -> Result<HashMap<String, String>, Problem> {
    let read = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await;
    read.map(|Path(values)| values).map_err(|_: PathRejection| {
        Problem::new(Fault::BadRequest, "The path is not percent-encoded UTF-8.")
    })
}
