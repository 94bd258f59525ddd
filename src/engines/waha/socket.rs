//! WAHA's WebSocket feed, for servers that cannot reach this worker with webhooks.
//!
//! The feed has no cursor: events that occur while no worker is connected are not sent later. So each
//! new connection is followed by a comparison (`reconcile`). One worker at a time is connected.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, connect_async_tls_with_config};
use url::Url;

use super::Waha;
use super::support::Environment;
use crate::config::WahaServer;
use crate::observability::events;

/// The subscribed events.
const EVENTS: [&str; 5] = [
    "group.v2.join",
    "group.v2.leave",
    "group.v2.participants",
    "group.v2.update",
    "session.status",
];

/// An event that WAHA has since 2026.8.2; an older one refuses a subscription that names it.
const NEWER_EVENT: &str = "group.v2.participants.join-request";

/// The code with which WAHA closes a connection whose parameters it does not accept.
const INVALID_PARAMETERS: u16 = 4001;

/// Why a connection ended that WAHA refused because of its parameters.
const REFUSED: &str = "the server does not know an event or session of the subscription (4001)";

/// WAHA refuses a subscription at once. After this time without a message it has accepted it.
const ACCEPTED: Duration = Duration::from_secs(2);

/// WAHA pings every ten seconds; after this time without a message the connection is closed.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a worker holds the right to connect, and how often it renews it.
const LEASE: Duration = Duration::from_secs(10);
const RENEWAL: Duration = Duration::from_secs(3);

/// The delay between connections grows from the first to the second value.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);

/// The maximum size of a message.
const LARGEST: usize = 16 * 1024 * 1024;

impl Waha {
    /// Connects to all servers, if the configuration says so; never ends.
    pub async fn listen(self: Arc<Self>, tls: Arc<rustls::ClientConfig>) {
        if !self.settings.socket {
            return;
        }
        let servers = self.client.servers().iter();
        join_all(servers.map(|server| self.follow(server, &tls))).await;
    }

    async fn follow(&self, server: &WahaServer, tls: &Arc<rustls::ClientConfig>) {
        let mut wait = FIRST;
        let mut is_older = false;
        let mut refused_by = None;
        loop {
            if !self.may_listen(server).await {
                tokio::time::sleep(RENEWAL).await;
                continue;
            }
            if is_older {
                let version = self.version(server).await;
                // After an update the event may be known.
                is_older = version.is_none() || version == refused_by;
            }
            let mut connected = false;
            let ended = self.converse(server, tls, is_older, &mut connected).await;
            if ended == REFUSED {
                // If it refuses without the event too, that is not the reason.
                is_older = !is_older;
                refused_by = self.version(server).await;
            }
            if connected {
                wait = FIRST;
            }
            events::socket_lost(&server.name, &ended, connected);
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.5))).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// The version of a server; none if it does not say.
    async fn version(&self, server: &WahaServer) -> Option<Environment> {
        let asked = self.client.environment(server).await;
        Environment::read(asked.ok()?.json())
    }

    async fn may_listen(&self, server: &WahaServer) -> bool {
        let lease = format!("waha-socket/{}", server.name);
        let ours = self.store.leases().acquire(&lease, LEASE).await;
        ours.unwrap_or_default()
    }

    /// The server has accepted the subscription: what happened before it is looked up.
    fn accepted_by(&self, server: &WahaServer, connected: &mut bool) {
        if std::mem::replace(connected, true) {
            return;
        }
        events::socket_connected(&server.name);
        let here = |it: &crate::contract::SessionName| {
            self.client
                .server(it)
                .is_some_and(|its| its.name == server.name)
        };
        for session in self.sessions.working().into_iter().filter(here) {
            self.request_refresh(session);
        }
    }

    /// One connection, from start to end; returns why it ended.
    async fn converse(
        &self,
        server: &WahaServer,
        tls: &Arc<rustls::ClientConfig>,
        is_older: bool,
        connected: &mut bool,
    ) -> String {
        let Some(url) = feed(server, is_older) else {
            return "no WebSocket URL can be derived from engine.waha's url".to_owned();
        };
        let limits = WebSocketConfig::default()
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST));
        let connector = Connector::Rustls(Arc::clone(tls));
        let connecting =
            connect_async_tls_with_config(url.as_str(), Some(limits), true, Some(connector));
        let mut stream = match tokio::time::timeout(server.timeout, connecting).await {
            Err(_) => return "the connection timed out".to_owned(),
            Ok(Err(error)) => return words(&error),
            Ok(Ok((stream, _))) => stream,
        };
        let mut renewal = tokio::time::interval(RENEWAL);
        let accepted = tokio::time::sleep(ACCEPTED);
        tokio::pin!(accepted);
        let mut observed_at = tokio::time::Instant::now();
        loop {
            // A message that is being read when the renewal is due stays in the stream.
            tokio::select! {
                message = stream.next() => {
                    observed_at = tokio::time::Instant::now();
                    let message = match message {
                        Some(Ok(Message::Close(Some(why))))
                            if u16::from(why.code) == INVALID_PARAMETERS =>
                        {
                            return REFUSED.to_owned();
                        }
                        None | Some(Ok(Message::Close(_))) => {
                            return "the server closed the connection".to_owned();
                        }
                        Some(Err(error)) => return words(&error),
                        Some(Ok(message)) => message,
                    };
                    self.accepted_by(server, connected);
                    match message {
                        Message::Text(text) => self.take_message(text.as_bytes()).await,
                        Message::Binary(bytes) => self.take_message(&bytes).await,
                        _ => {}
                    }
                }
                () = &mut accepted, if !*connected => self.accepted_by(server, connected),
                _ = renewal.tick() => {
                    if observed_at.elapsed() > SILENCE {
                        return "no message or ping within 45 s".to_owned();
                    }
                    if !self.may_listen(server).await {
                        return "another worker holds the connection".to_owned();
                    }
                }
            }
        }
    }
}

/// The feed's URL. It contains the key, as WAHA requires, so it must never be logged.
fn feed(server: &WahaServer, is_older: bool) -> Option<Url> {
    let mut url = server.url.clone();
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).ok()?;
    let path = format!("{}/ws", url.path().trim_end_matches('/'));
    url.set_path(&path);
    {
        let mut query = url.query_pairs_mut();
        let key = server.api_key.expose_secret();
        if !key.is_empty() {
            query.append_pair("x-api-key", key);
        }
        query.append_pair("session", "*");
        let newer = (!is_older).then_some(NEWER_EVENT);
        for event in EVENTS.into_iter().chain(newer) {
            query.append_pair("events", event);
        }
    }
    Some(url)
}

/// The reason, without the URL, which some errors contain.
fn words(error: &Error) -> String {
    match error {
        Error::Http(answer) => format!("the server answered {}", answer.status()),
        Error::Io(error) => error.kind().to_string(),
        Error::Tls(_) => "the TLS handshake failed".to_owned(),
        Error::Capacity(_) => "a message exceeds the size limit".to_owned(),
        Error::ConnectionClosed | Error::AlreadyClosed => {
            "the server closed the connection".to_owned()
        }
        Error::Protocol(_) => "the server violates the WebSocket protocol".to_owned(),
        _ => "the connection failed".to_owned(),
    }
}
