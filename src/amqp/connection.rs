//! Making one connection: url, TLS, heartbeat, name. Keeping it is the supervisor's business.

use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::LongString;
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::config;

use super::Error;
use super::stream::{Kit, Plan};

/// Where to connect to, and how; read again for every connection, so that a rotated password or
/// certificate is taken up.
#[derive(Debug, Clone)]
pub struct Target {
    settings: config::Amqp,
}

impl Target {
    /// A broker as configured.
    #[must_use]
    pub const fn new(settings: config::Amqp) -> Self {
        Self { settings }
    }

    /// The settings it was made of.
    #[must_use]
    pub const fn settings(&self) -> &config::Amqp {
        &self.settings
    }

    /// Connects; `purpose` is shown in the broker's list of connections.
    ///
    /// # Cancellation
    /// Dropping the future cuts the connection off.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection, Error> {
        let timeout = self.settings.connect_timeout;
        let name = format!("groupmq {purpose} {}", std::process::id());
        let properties =
            ConnectionProperties::default().with_connection_name(LongString::from(name));
        let cut = CancellationToken::new();
        let given_up = cut.clone().drop_guard();
        let plan = Plan {
            tls: self.tls().await?,
            timeout,
            headers_max: headers_max(self.settings.frame_max),
            cut,
        };
        let connect = async move |uri, _| plan.clone().connect(uri).await;
        let connecting =
            Connection::connector(self.uri().await?, Kit::runtime(), connect, properties);
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => {
                given_up.disarm();
                Ok(connected?)
            }
            Err(_) => Err(Error::TimedOut(timeout, "connecting")),
        }
    }

    async fn uri(&self) -> Result<AMQPUri, Error> {
        let url = match &self.settings.url_file {
            None => self.settings.url.expose_secret().to_owned(),
            Some(file) => read(file, "amqp.url_file").await?.trim_end().to_owned(),
        };
        // The parser's own error would repeat the url, password included.
        let mut uri: AMQPUri = url
            .parse()
            .map_err(|_| Error::Settings("amqp.url cannot be read".to_owned()))?;
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

/// How much of a message's headers is let in: they are passed on with a dead letter, whose header
/// frame must hold our own headers too.
const fn headers_max(frame_max: u32) -> usize {
    (frame_max / 4) as usize
}

async fn read(file: &std::path::Path, key: &str) -> Result<String, Error> {
    tokio::fs::read_to_string(file)
        .await
        .map_err(|error| Error::Settings(format!("{key}: cannot read {}: {error}", file.display())))
}
