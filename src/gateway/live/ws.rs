//! WebSocket: each message is one event.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::response::Response;
use tokio::time::{Instant, interval};

use crate::lifecycle::Lifecycle;

use super::hub::{Listener, Update};

/// Sent where events may have been missed.
pub(super) const GAP: &str =
    r#"{"event":"groupmq.gap","payload":{"reason":"events may have been missed here"}}"#;

/// The same interval as in WAHA.
const PING: Duration = Duration::from_secs(10);
/// A client that has sent nothing for this long, not even a pong, is disconnected.
const SILENCE: Duration = Duration::from_secs(30);
/// WAHA's close code for wrong parameters.
const WRONG_PARAMETERS: u16 = 4001;
/// Clients have nothing to send but control frames.
const MESSAGE_MAX: usize = 16 * 1024;

/// Sends events until the client disconnects or the process stops.
pub(super) fn answer(upgrade: WebSocketUpgrade, listener: Listener, life: Lifecycle) -> Response {
    upgrade
        .max_message_size(MESSAGE_MAX)
        .on_upgrade(move |socket| stream_events(socket, listener, life))
}

/// Accepts the upgrade, then closes with the reason: a browser shows its page no other error.
pub(super) fn refuse(upgrade: WebSocketUpgrade, why: &'static str) -> Response {
    upgrade.on_upgrade(move |mut socket| async move {
        close(&mut socket, WRONG_PARAMETERS, why).await;
    })
}

async fn stream_events(mut socket: WebSocket, mut listener: Listener, life: Lifecycle) {
    let mut ping = interval(PING);
    let mut heard_at = Instant::now();
    loop {
        // Each branch can be dropped: the listener keeps its position, the socket its buffer.
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
    // The client may have disconnected.
    socket.send(Message::Close(Some(frame))).await.ok();
}
