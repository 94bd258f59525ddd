//! The HTTP server: HTTP/1.1 and HTTP/2 without TLS, with a bounded number of connections and with timeouts for
//! slow clients.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

use crate::config;
use crate::lifecycle::Lifecycle;
use crate::observability::events;

/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The wait after a failure to accept, for example because no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// File descriptors reserved for broker, store and health checks.
const OTHER_FILES: usize = 48;

/// Accepts connections until the process stops, then waits for the open ones to finish.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    settings: &config::Gateway,
    lifecycle: &Lifecycle,
) {
    let patience = settings.client_timeout;
    let http = Arc::new(builder(patience));
    let limit = max_connections(settings.connections, open_files());
    if limit < settings.connections {
        events::fewer_connections(limit);
    }
    let permits = Arc::new(Semaphore::new(limit));
    let graceful = GracefulShutdown::new();
    loop {
        // Both branches can be dropped: a connection that is not accepted stays in the listen queue.
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = lifecycle.stopping() => break,
        };
        let Some((stream, permit)) = accepted else {
            continue;
        };
        let (http, router) = (Arc::clone(&http), router.clone());
        let watcher = graceful.watcher();
        lifecycle.spawn(async move {
            let _permit = permit;
            stream.set_nodelay(true).ok();
            let said = tokio::time::timeout(patience, first_bytes(&stream)).await;
            if !matches!(said, Ok(Ok(()))) {
                return;
            }
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(patience));
            let io = TokioIo::new(Box::pin(stream));
            let service = TowerToHyperService::new(router);
            let connection = http
                .serve_connection_with_upgrades(io, service)
                .into_owned();
            if let Err(error) = watcher.watch(connection).await {
                debug!(
                    error = &*error as &dyn std::error::Error,
                    "connection failed"
                );
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// At most half of the limit of open files: if clients could use all, health checks would fail, and a lost
/// connection to the broker could not be opened again.
fn max_connections(wanted: usize, files: Option<usize>) -> usize {
    let spare = files.map(|files| (files / 2).min(files.saturating_sub(OTHER_FILES)));
    spare.map_or(wanted, |spare| wanted.min(spare).max(1))
}

/// The soft limit of open files, if the system reports one.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot accept a connection"
            );
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

fn builder(patience: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    builder
}

/// Waits until the client's HTTP version can be detected; the builder has no timeout for that.
async fn first_bytes(stream: &TcpStream) -> std::io::Result<()> {
    let mut said = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut said).await?;
        let said = said.get(..length).unwrap_or_default();
        if length == 0 || length == PREFACE.len() || !PREFACE.starts_with(said) {
            return Ok(());
        }
        // The bytes stay in the buffer, so the next peek would return at once.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest_of_the_process() {
        assert_eq!(max_connections(10_000, None), 10_000);
        assert_eq!(max_connections(10_000, Some(1_048_576)), 10_000);
        assert_eq!(max_connections(10_000, Some(1_024)), 512);
        assert_eq!(max_connections(10, Some(1_024)), 10);
        assert_eq!(max_connections(10_000, Some(64)), 16);
        assert_eq!(max_connections(10_000, Some(20)), 1);
    }
}
