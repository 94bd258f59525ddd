//! The byte stream of a connection: incoming bytes are sanitized, and the stream can be cut off.
//!
//! lapin runs each connection on a separate thread that ends only with its socket. A handshake that is
//! given up is therefore cut off here; otherwise every attempt to connect to a broker that accepts and
//! never answers would leak a thread.

use std::future::ready;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Context, Poll};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::AsyncTcpStream;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::amqp::Broker;
use crate::amqp::link::sanitize::sanitizer::FrameSanitizer;

type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// The size of the read buffer.
const READ: usize = 16 * 1024;

/// TLS itself failed: certificates, versions, or the other end does not use TLS.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::amqp) struct TlsFailure(io::Error);

impl TlsFailure {
    /// rustls reports TLS errors as invalid data, and network errors unchanged.
    fn mark(error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::InvalidData {
            io::Error::new(io::ErrorKind::InvalidData, Self(error))
        } else {
            error
        }
    }
}

/// How to make the stream of a connection.
#[derive(Debug, Clone)]
pub(in crate::amqp) struct Plan {
    pub(in crate::amqp) tls: OwnedTLSConfig,
    pub(in crate::amqp) timeout: Duration,
    /// The maximum number of header bytes of a message.
    pub(in crate::amqp) headers_max: usize,
    /// Where the broker's greeting is stored.
    pub(in crate::amqp) greeting: Arc<OnceLock<Broker>>,
    /// Ends the stream.
    pub(in crate::amqp) cut: CancellationToken,
}

impl Plan {
    /// Connects, and uses TLS where the url says so.
    pub(in crate::amqp) async fn connect(
        self,
        uri: AMQPUri,
    ) -> lapin::Result<AsyncTcpStream<SanitizedStream>> {
        let connected = tokio::time::timeout(self.timeout, self.socket(&uri)).await;
        let socket = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(AsyncTcpStream::Plain(SanitizedStream {
            socket,
            is_tls: uri.scheme == AMQPScheme::AMQPS,
            sanitizer: FrameSanitizer::new(self.headers_max, self.greeting),
            read: vec![0; READ].into_boxed_slice(),
            cut: Box::pin(self.cut.cancelled_owned()),
        }))
    }

    async fn socket(&self, uri: &AMQPUri) -> io::Result<Socket> {
        let runtime = Runtime::tokio_current();
        let host = uri.authority.host.clone();
        let address = runtime.to_socket_addrs((host.clone(), uri.authority.port));
        let socket = AsyncTcpStream::connect(&runtime, address).await?;
        match uri.scheme {
            AMQPScheme::AMQP => Ok(socket),
            AMQPScheme::AMQPS => socket
                .into_tls(&host, self.tls.as_ref())
                .await
                .map_err(TlsFailure::mark),
        }
    }
}

/// A socket whose incoming bytes are sanitized.
pub(in crate::amqp) struct SanitizedStream {
    socket: Socket,
    is_tls: bool,
    sanitizer: FrameSanitizer,
    read: Box<[u8]>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for SanitizedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            let count = this.sanitizer.give(buffer);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            let read = task::ready!(Pin::new(&mut this.socket).poll_read(context, &mut this.read));
            match read {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(count) => this
                    .sanitizer
                    .feed(this.read.get(..count).unwrap_or_default())?,
                // The other end's rejection of our certificate arrives here.
                Err(error) if this.is_tls => return Poll::Ready(Err(TlsFailure::mark(error))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SanitizedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context)
    }
}

/// The tokio runtime for lapin, with [`SanitizedStream`] as its stream.
#[derive(Debug, Clone)]
pub(in crate::amqp) struct SanitizingRuntime(Tokio);

impl SanitizingRuntime {
    /// The current runtime.
    pub(in crate::amqp) fn runtime() -> Runtime<Self> {
        Runtime::new(Self(Tokio::current()))
    }
}

impl RuntimeKit for SanitizingRuntime {}

impl Executor for SanitizingRuntime {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, work: F) -> T {
        self.0.block_on(work)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(work)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for SanitizingRuntime {
    type TcpStream = SanitizedStream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<SanitizedStream>> + Send + 'static {
        // Not called: `Plan::connect` makes the stream.
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
