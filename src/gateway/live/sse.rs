//! Server-Sent Events: `id` and `event` are the event's own, `data` is the event.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::lifecycle::Lifecycle;

use super::hub::{Listener, Update};
use super::ws::GAP;

/// A comment is sent when nothing else was for so long, so that nobody takes the line for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a browser should wait before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// Streams what a listener hears, until the client goes or the process stops.
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
    // Proxies (nginx) pass it on at once.
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
