//! Servers on loopback that do what a test says, and count who comes.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A server that is there for as long as this is.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Serves each connection so, on 127.0.0.1.
    pub(crate) async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), serve)
    }

    /// Serves each connection so.
    pub(crate) fn on<F, S>(listener: TcpListener, serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve(stream));
            }
        });
        Self {
            address,
            connections,
            _tasks: tasks,
        }
    }

    /// Reads one request, writes these bytes and closes.
    pub(crate) async fn says(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self::start(move |mut stream| {
            let text = text.clone();
            async move {
                request(&mut stream).await?;
                stream.write_all(&text).await?;
                stream.shutdown().await
            }
        })
        .await
    }

    /// A server that behaves: 200, and in its body what it was asked with.
    pub(crate) async fn good() -> Self {
        Self::start(|stream| http(TokioIo::new(stream))).await
    }

    /// The same over TLS.
    pub(crate) async fn secure(config: rustls::ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |stream| {
            let acceptor = acceptor.clone();
            async move { http(TokioIo::new(acceptor.accept(stream).await?)).await }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Connections that were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Serves HTTP/1 or HTTP/2, whichever the client begins with.
async fn http<I>(io: I) -> io::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    auto::Builder::new(TokioExecutor::new())
        .serve_connection(io, service_fn(tell))
        .await
        .map_err(io::Error::other)
}

/// Tells version, path and headers; other paths do what they are called.
async fn tell(request: Request<Incoming>) -> Result<Response<Told>, Infallible> {
    let mut response = Response::builder();
    let told = match request.uri().path() {
        "/204" => {
            response = response.status(204);
            Told::Once(Bytes::new())
        }
        "/endless" => Told::Forever(vec![b'x'; 16 * 1024].into()),
        "/headers" => {
            for number in 0..300 {
                response = response.header(format!("x-{number}"), "x".repeat(1000));
            }
            Told::Once(Bytes::new())
        }
        _ => Told::Once(Bytes::from(format!(
            "{:?} {} {} {:?}",
            request.version(),
            request.method(),
            request.uri(),
            request.headers()
        ))),
    };
    Ok(response.body(told).unwrap())
}

/// A body that comes once, or never ends.
enum Told {
    Once(Bytes),
    Forever(Bytes),
}

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Once(bytes) if bytes.is_empty() => None,
            Self::Once(bytes) => Some(std::mem::take(bytes)),
            Self::Forever(bytes) => Some(bytes.clone()),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Once(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Once(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Forever(_) => SizeHint::default(),
        }
    }
}

/// Reads one request, body included, and tells its head.
pub(crate) async fn request(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(head)
}

/// An address on loopback where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
