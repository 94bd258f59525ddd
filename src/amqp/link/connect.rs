//! Making one connection: url, TLS, heartbeat, name. `supervisor` keeps it alive.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::LongString;
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config;

use crate::amqp::link::sanitize::stream::{Plan, SanitizingRuntime};
use crate::amqp::{Broker, Error};

/// The smallest `frame_max` that RabbitMQ 4 accepts, in bytes.
const SMALL_FRAMES: u32 = 8_192;

/// Where to connect to, and how. Url and certificates are read again for every connection, so that rotated
/// passwords and certificates take effect.
#[derive(Debug, Clone)]
pub struct Target {
    settings: config::Amqp,
    /// The nodes, in the order in which they are tried; none stands for the host in the url.
    nodes: Vec<Option<config::Host>>,
    /// The broker that answered last.
    // A std mutex: held briefly and never across an await.
    broker: Arc<Mutex<Option<Broker>>>,
}

impl Target {
    /// A broker as configured.
    #[must_use]
    pub fn new(settings: config::Amqp) -> Self {
        let others = settings.other_hosts.iter().cloned().map(Some);
        let nodes = std::iter::once(None).chain(others).collect();
        Self {
            settings,
            nodes,
            broker: Arc::default(),
        }
    }

    /// The broker that answered last, by its own description.
    #[must_use]
    pub fn broker(&self) -> Option<Broker> {
        self.broker.lock().clone()
    }

    /// Each node of the broker separately, with its name for people.
    pub fn each(&self) -> impl Iterator<Item = (String, Self)> {
        self.nodes.iter().map(|node| {
            let settings = self.settings.clone();
            let nodes = vec![node.clone()];
            let broker = Arc::default();
            let alone = Self {
                settings,
                nodes,
                broker,
            };
            (label(node.as_ref()), alone)
        })
    }

    /// The settings it was made from.
    #[must_use]
    pub const fn settings(&self) -> &config::Amqp {
        &self.settings
    }

    /// The same with small frames, and so with small buffers: for connections that only check the topology.
    #[must_use]
    pub fn with_small_frames(mut self) -> Self {
        self.settings.frame_max = self.settings.frame_max.min(SMALL_FRAMES);
        self
    }

    /// Connects to the first node that accepts, beginning with the one at `turn`; `purpose` is shown in the
    /// broker's list of connections.
    ///
    /// # Errors
    /// Why no node accepts: a refusal, if there was one.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection.
    pub(in crate::amqp) async fn connect(
        &self,
        purpose: &str,
        turn: usize,
    ) -> Result<Connection, Error> {
        let uri = self.uri().await?;
        let count = self.nodes.len();
        let in_turn = self.nodes.iter().cycle().skip(turn % count).take(count);
        let mut refusal = None;
        let mut left = count;
        for node in in_turn {
            left -= 1;
            match self
                .connect_to(at(uri.clone(), node.as_ref()), purpose)
                .await
            {
                Ok(connection) => return Ok(connection),
                Err(error) if left == 0 => return Err(refusal.unwrap_or(error)),
                Err(error) => {
                    let error_shown = &error as &dyn std::error::Error;
                    let node = label(node.as_ref());
                    warn!(
                        link = purpose,
                        node,
                        error = error_shown,
                        "trying the broker's next node"
                    );
                    refusal = refusal.or_else(|| error.is_lasting().then_some(error));
                }
            }
        }
        Err(Error::Settings("amqp.url is missing".to_owned()))
    }

    async fn connect_to(&self, uri: AMQPUri, purpose: &str) -> Result<Connection, Error> {
        let timeout = self.settings.connect_timeout;
        let name = format!("groupmq {purpose} {}", std::process::id());
        let properties =
            ConnectionProperties::default().with_connection_name(LongString::from(name));
        let greeting = Arc::<OnceLock<Broker>>::default();
        let cut = CancellationToken::new();
        let given_up = cut.clone().drop_guard();
        let plan = Plan {
            tls: self.tls().await?,
            timeout,
            headers_max: headers_max(self.settings.frame_max),
            greeting: Arc::clone(&greeting),
            cut,
        };
        let connect = async move |uri, _| plan.clone().connect(uri).await;
        let connecting =
            Connection::connector(uri, SanitizingRuntime::runtime(), connect, properties);
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => {
                let connection = connected?;
                if let Some(broker) = greeting.get() {
                    self.accept(broker)?;
                }
                given_up.disarm();
                Ok(connection)
            }
            Err(_) => Err(Error::TimedOut(timeout, "connecting")),
        }
    }

    /// Records the broker that answered; an error when it is too old, which closes the connection.
    fn accept(&self, broker: &Broker) -> Result<(), Error> {
        if broker.is_too_old() {
            return Err(Error::TooOld(broker.clone()));
        }
        let mut seen = self.broker.lock();
        *seen = Some(broker.clone());
        Ok(())
    }

    async fn uri(&self) -> Result<AMQPUri, Error> {
        let url = match &self.settings.url_file {
            None => self.settings.url.expose_secret().to_owned(),
            Some(file) => {
                let url = read(file, "amqp.url_file").await?;
                // Trimmed as the configuration does at the start.
                url.trim_start_matches('\u{feff}').trim_end().to_owned()
            }
        };
        // The parser's own error would repeat the url, password included.
        let mut uri: AMQPUri = url.parse().map_err(|_| {
            Error::Settings("amqp.url cannot be read; is its password percent-encoded?".to_owned())
        })?;
        // lapin's parser does not accept an IPv6 address and falls back to localhost.
        if let Ok(parsed) = url::Url::parse(&url)
            && let Some(url::Host::Ipv6(address)) = parsed.host()
        {
            uri.authority.host = address.to_string();
        }
        let seconds = |duration: Duration| u16::try_from(duration.as_secs()).unwrap_or(u16::MAX);
        uri.query
            .heartbeat
            .get_or_insert(seconds(self.settings.heartbeat));
        uri.query.frame_max.get_or_insert(self.settings.frame_max);
        if self.settings.tls.external {
            uri.query.auth_mechanism = Some(SASLMechanism::External);
        }
        Ok(uri)
    }

    async fn tls(&self) -> Result<OwnedTLSConfig, Error> {
        let tls = &self.settings.tls;
        let cert_chain = match &tls.ca_file {
            None => None,
            Some(file) => Some(read(file, "amqp.tls.ca_file").await?),
        };
        let identity = match &tls.identity {
            None => None,
            Some((certificate, key)) => Some(OwnedIdentity::PKCS8 {
                pem: read(certificate, "amqp.tls.certificate_file")
                    .await?
                    .into_bytes(),
                key: read(key, "amqp.tls.key_file").await?.into_bytes(),
            }),
        };
        Ok(OwnedTLSConfig {
            identity,
            cert_chain,
        })
    }
}

/// The same url with another node's host.
fn at(mut uri: AMQPUri, node: Option<&config::Host>) -> AMQPUri {
    if let Some(node) = node {
        uri.authority.host.clone_from(&node.name);
        uri.authority.port = node.port.unwrap_or(uri.authority.port);
    }
    uri
}

/// A node's name for people: as in the settings, without the credentials that the url holds.
fn label(node: Option<&config::Host>) -> String {
    node.map_or_else(
        || "the host in amqp.url".to_owned(),
        config::Host::to_string,
    )
}

/// The maximum size of a message's headers. A dead letter carries them, and its header frame must hold our
/// own headers too.
const fn headers_max(frame_max: u32) -> usize {
    (frame_max / 4) as usize
}

async fn read(file: &std::path::Path, key: &str) -> Result<String, Error> {
    tokio::fs::read_to_string(file)
        .await
        .map_err(|error| Error::Settings(format!("{key}: cannot read {}: {error}", file.display())))
}
