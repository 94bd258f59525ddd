//! A webhook endpoint on a port of its own: a real HTTP server that answers as it is told, by path, and
//! keeps what it got.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use futures_util::stream::{self, Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// How to answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// After so long.
    pub delay: Duration,
    /// With these headers.
    pub headers: Vec<(&'static str, String)>,
    /// With this body.
    pub body: String,
    /// What comes behind that body.
    pub end: End,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// The connection is cut.
    Cut,
    /// It does not: a byte comes now and then.
    Drips,
}

impl Answer {
    /// An answer at once, with nothing but its status.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self {
            status,
            delay: Duration::ZERO,
            headers: Vec::new(),
            body: String::new(),
            end: End::Whole,
        }
    }

    /// The same, with a body that ends so.
    #[must_use]
    pub const fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// The same, later.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, with a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What arrived.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Where to.
    pub path: String,
    /// When.
    pub at: Instant,
    /// With which headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// With which body.
    pub body: Vec<u8>,
    /// How it was answered.
    pub status: u16,
}

impl Delivered {
    /// A header, empty where it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `webhook-id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

type Rule = Box<dyn FnMut(&Delivered) -> Answer + Send>;

#[derive(Default)]
struct Shared {
    rules: Mutex<BTreeMap<String, Rule>>,
    got: Mutex<Vec<Delivered>>,
    changed: Notify,
    /// By path: how many are being answered now, and how many there were at most.
    busy: Mutex<BTreeMap<String, (usize, usize)>>,
}

/// A server with any number of endpoints, told apart by their paths.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinSet<()>,
}

impl Receiver {
    /// Starts to listen. Until told otherwise, every path answers 204.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> Result<Self> {
        let mut receiver = Self {
            address: ([127, 0, 0, 1], 0).into(),
            shared: Arc::default(),
            serving: JoinSet::new(),
        };
        receiver.up()?;
        Ok(receiver)
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn up(&mut self) -> Result<()> {
        // Several lives of one server share the port: its old connections may linger.
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        let listener: TcpListener = socket.listen(1024)?;
        self.address = listener.local_addr()?;
        let routes = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.shared));
        self.serving.spawn(async move {
            axum::serve(listener, routes).await.unwrap_or_default();
        });
        Ok(())
    }

    /// Takes no connections any more, and cuts those that there are.
    pub async fn down(&mut self) {
        self.serving.shutdown().await;
    }

    /// The url of a path, which begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Has a path answer like this from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.rule(path, move |_| answer.clone());
    }

    /// Has a path answer as a rule says.
    pub fn rule(&self, path: &str, rule: impl FnMut(&Delivered) -> Answer + Send + 'static) {
        self.shared
            .rules
            .lock()
            .insert(path.to_owned(), Box::new(rule));
    }

    /// Everything that arrived at a path so far, in order.
    #[must_use]
    pub fn got(&self, path: &str) -> Vec<Delivered> {
        let all = self.shared.got.lock();
        all.iter().filter(|it| it.path == path).cloned().collect()
    }

    /// The ids of all events that a path took (2xx).
    #[must_use]
    pub fn taken(&self, path: &str) -> BTreeSet<String> {
        let all = self.shared.got.lock();
        let taken = all
            .iter()
            .filter(|it| it.path == path && (200..300).contains(&it.status));
        taken.map(|it| it.id().to_owned()).collect()
    }

    /// How many requests a path answered at the same time, at most, since the last time it was asked.
    #[must_use]
    pub fn most_at_once(&self, path: &str) -> usize {
        let mut busy = self.shared.busy.lock();
        busy.get_mut(path).map_or(0, |(now, most)| {
            let was = *most;
            *most = *now;
            was
        })
    }

    /// Waits until a question has an answer.
    ///
    /// # Errors
    /// When it has none in time.
    pub async fn until<T>(
        &self,
        within: Duration,
        mut ask: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let changed = self.shared.changed.notified();
            if let Some(answer) = ask(self) {
                return Ok(answer);
            }
            let left = within.saturating_sub(begun.elapsed());
            ensure!(!left.is_zero(), "not within {within:?}");
            // Looked at again now and then: not every question is about what arrived.
            tokio::time::timeout(left.min(Duration::from_millis(200)), changed)
                .await
                .ok();
        }
    }

    /// Waits until a path has taken so many different events.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn takes(&self, path: &str, count: usize, within: Duration) -> Result<()> {
        self.until(within, |it| (it.taken(path).len() >= count).then_some(()))
            .await
            .with_context(|| {
                let (taken, got) = (self.taken(path).len(), self.got(path).len());
                format!("{path} took {taken} of {count}, in {got} requests")
            })
    }

    /// Waits until so many requests arrived at a path, and returns them.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn gets(&self, path: &str, count: usize) -> Result<Vec<Delivered>> {
        let all = |it: &Self| Some(it.got(path)).filter(|got| got.len() >= count);
        self.until(PATIENCE, all)
            .await
            .with_context(|| format!("{path} got {} of {count}", self.got(path).len()))
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let path = uri.path().to_owned();
    let headers = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let mut delivered = Delivered {
        path: path.clone(),
        at: Instant::now(),
        headers,
        body: body.to_vec(),
        status: 0,
    };
    let answer = match shared.rules.lock().get_mut(&path) {
        Some(rule) => rule(&delivered),
        None => Answer::status(204),
    };
    delivered.status = answer.status;
    shared.got.lock().push(delivered);
    {
        let mut busy = shared.busy.lock();
        let (now, most) = busy.entry(path.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }
    let busy = Busy(Arc::clone(&shared), path);
    shared.changed.notify_waiters();
    tokio::time::sleep(answer.delay).await;
    drop(busy);
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = match answer.end {
        End::Whole => Body::from(answer.body),
        end => Body::from_stream(broken(answer.body, end)),
    };
    response.body(body).unwrap_or_default()
}

/// A body that does not end as it should.
fn broken(body: String, end: End) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let more = stream::unfold((), move |()| async move {
        // What came before is to be on its way first.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = match end {
            End::Drips => Ok(Bytes::from_static(b".")),
            End::Whole | End::Cut => Err(std::io::Error::other("cut off on purpose")),
        };
        Some((next, ()))
    });
    stream::once(async { Ok(Bytes::from(body)) }).chain(more)
}

/// A request that is being answered, until dropped: the client may go away meanwhile.
struct Busy(Arc<Shared>, String);

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some((now, _)) = self.0.busy.lock().get_mut(&self.1) {
            *now -= 1;
        }
    }
}
