//! WebSocket: each message is one event.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::response::Response;
use tokio::time::{Instant, interval};

use crate::lifecycle::Lifecycle;

use super::hub::{Listener, Update};

/// What is sent where events may have been missed.
pub(super) const GAP: &str =
    r#"{"event":"groupmq.gap","payload":{"reason":"events may have been missed here"}}"#;

/// As often as WAHA does.
const PING: Duration = Duration::from_secs(10);
/// Who answers no ping for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// WAHA's close code for wrong parameters.
const WRONG_PARAMETERS: u16 = 4001;
/// Nobody has anything to say to us.
const MESSAGE_MAX: usize = 16 * 1024;

/// Sends what a listener hears, until the client goes or the process stops.
pub(super) fn answer(upgrade: WebSocketUpgrade, listener: Listener, life: Lifecycle) -> Response {
    upgrade
        .max_message_size(MESSAGE_MAX)
        .on_upgrade(move |socket| stream_events(socket, listener, life))
}

/// Accepts, only to say why not: a browser shows its page nothing else.
pub(super) fn refuse(upgrade: WebSocketUpgrade, why: &'static str) -> Response {
    upgrade.on_upgrade(move |mut socket| async move {
        close(&mut socket, WRONG_PARAMETERS, why).await;
    })
}

async fn stream_events(mut socket: WebSocket, mut listener: Listener, life: Lifecycle) {
    let mut ping = interval(PING);
    let mut heard_at = Instant::now();
    loop {
        // Each can be dropped: the listener keeps its place, the socket what it has received.
        let sent = tokio::select! {
            next = listener.next() => {
                let text = match &next {
                    Update::Event(kept) => kept.body.as_str(),
                    Update::Gap => GAP,
                };
                socket.send(Message::text(text)).await
            }
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard_at = Instant::now();
                    Ok(())
                }
            },
            _ = ping.tick() => {
                if heard_at.elapsed() > SILENCE {
                    return;
                }
                socket.send(Message::Ping(Bytes::new())).await
            }
            () = life.stopping() => {
                return close(&mut socket, close_code::AWAY, "the gateway stops").await;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn close(socket: &mut WebSocket, code: u16, why: &'static str) {
    let frame = CloseFrame {
        code,
        reason: why.into(),
    };
    // It may be gone already.
    socket.send(Message::Close(Some(frame))).await.ok();
}
