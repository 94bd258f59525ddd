//! Server-Sent Events: `id` and `event` are those of the event, `data` is the whole event.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::lifecycle::Lifecycle;

use super::hub::{Listener, Update};
use super::ws::GAP;

/// A comment is sent after this time without events, so that proxies keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The wait before a browser reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// Streams events until the client disconnects or the process stops.
pub(super) fn answer(listener: Listener, lifecycle: Lifecycle) -> Response {
    let hello = Event::default().retry(RETRY).comment("listening");
    let begin = stream::iter([Ok::<_, Infallible>(hello)]);
    let heard = stream::unfold((listener, lifecycle), |(mut listener, lifecycle)| async {
        let next = tokio::select! {
            next = listener.next() => next,
            () = lifecycle.stopping() => return None,
        };
        Some((Ok(written(&next)), (listener, lifecycle)))
    });
    let stream = stream::StreamExt::chain(begin, heard);
    let sse = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Disables nginx's buffering of the response.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    ([(unbuffered, HeaderValue::from_static("no"))], sse).into_response()
}

fn written(next: &Update) -> Event {
    match next {
        Update::Event(kept) => Event::default()
            .id(kept.id.to_string())
            .event(&kept.name)
            .data(&kept.body),
        Update::Gap => Event::default().event("groupmq.gap").data(GAP),
    }
}
