//! A TCP proxy that misbehaves on demand, to put between a client and the broker.
//!
//! It moves bytes and does not understand them, so it serves AMQP, TLS and HTTP alike. Links are told
//! apart by what their client says first: an AMQP client without TLS names its connection there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// So much of what a client says first is remembered.
const GREETING: usize = 2048;

/// Forwards connections to one address. Dropping it cuts every link and stops listening.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    /// All links that there ever were.
    links: Arc<Mutex<Vec<Link>>>,
    /// Held for its drop, which ends the accept loop and with it the links.
    _accepting: JoinSet<()>,
}

/// What the links are told; every link watches it.
#[derive(Debug, Default)]
struct Mood {
    refusing: bool,
    paused: bool,
    /// The calls of [`Proxy::cut_those`]: a link heeds those that came after it was opened.
    cuts: Vec<String>,
    /// The calls of [`Proxy::freeze_those`], likewise.
    freezes: Vec<String>,
}

/// One link: which orders are older than it, and what its client said first.
#[derive(Debug, Clone)]
struct Link {
    cuts: usize,
    freezes: usize,
    greeting: Arc<Mutex<Vec<u8>>>,
    /// The server sent something after the client did.
    is_answered: Arc<AtomicBool>,
    round_trips: Arc<AtomicUsize>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    ///
    /// # Errors
    ///
    /// When it cannot listen. An unreachable target is no error: links to it end at once.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mood, watched) = watch::channel(Mood::default());
        let links = Arc::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, target, watched, Arc::clone(&links)));
        Ok(Self {
            address,
            mood,
            links,
            _accepting: accepting,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every link that is open now; new connections are forwarded as before.
    pub fn cut(&self) {
        self.cut_those("");
    }

    /// Resets those open links whose client said these words in its first two kilobytes.
    pub fn cut_those(&self, words: &str) {
        self.mood
            .send_modify(|mood| mood.cuts.push(words.to_owned()));
    }

    /// Moves no more bytes over those open links, for good, and does not close them: half-open, as
    /// after a firewall has forgotten them. New connections are forwarded as before.
    pub fn freeze_those(&self, words: &str) {
        self.mood
            .send_modify(|mood| mood.freezes.push(words.to_owned()));
    }

    /// How often the clients of those links, open or not, sent something after an answer.
    #[must_use]
    pub fn round_trips(&self, words: &str) -> usize {
        let links = self.links.lock();
        let meant = links.iter().filter(|link| link.said(words));
        meant
            .map(|link| link.round_trips.load(Ordering::Relaxed))
            .sum()
    }

    /// Holds all bytes in both directions while the links stay open, as a dead network does.
    pub fn pause(&self) {
        self.mood.send_modify(|mood| mood.paused = true);
    }

    /// Ends [`Proxy::pause`]; what was held is delivered.
    pub fn resume(&self) {
        self.mood.send_modify(|mood| mood.paused = false);
    }

    /// Resets new connections at once, as a load balancer in front of a dead broker does. Open links
    /// stay.
    pub fn refuse(&self) {
        self.mood.send_modify(|mood| mood.refusing = true);
    }

    /// Ends [`Proxy::refuse`].
    pub fn accept(&self) {
        self.mood.send_modify(|mood| mood.refusing = false);
    }
}

impl Link {
    fn is_cut(&self, mood: &Mood) -> bool {
        self.is_meant(mood.cuts.get(self.cuts..))
    }

    fn moves(&self, mood: &Mood) -> bool {
        !mood.paused && !self.is_meant(mood.freezes.get(self.freezes..))
    }

    fn is_meant(&self, orders: Option<&[String]>) -> bool {
        let mut orders = orders.unwrap_or_default().iter();
        orders.any(|words| self.said(words))
    }

    fn said(&self, words: &str) -> bool {
        let (greeting, words) = (self.greeting.lock(), words.as_bytes());
        words.is_empty() || greeting.windows(words.len()).any(|part| part == words)
    }

    fn answers(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    fn hears(&self, bytes: &[u8]) {
        if self.is_answered.swap(false, Ordering::Relaxed) {
            self.round_trips.fetch_add(1, Ordering::Relaxed);
        }
        let mut greeting = self.greeting.lock();
        let room = GREETING.saturating_sub(greeting.len());
        greeting.extend(bytes.iter().take(room));
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    mood: watch::Receiver<Mood>,
    known: Arc<Mutex<Vec<Link>>>,
) {
    let mut links = JoinSet::new();
    loop {
        // Both branches may be cancelled: neither takes anything before it completes.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let link = {
                    let now = mood.borrow();
                    let (cuts, freezes) = (now.cuts.len(), now.freezes.len());
                    (!now.refusing).then(|| Link {
                        cuts,
                        freezes,
                        greeting: Arc::default(),
                        is_answered: Arc::default(),
                        round_trips: Arc::default(),
                    })
                };
                match link {
                    None => { client.set_zero_linger().ok(); }
                    Some(link) => {
                        known.lock().push(link.clone());
                        links.spawn(forward(client, target, mood.clone(), link));
                    }
                }
            }
            Some(_) = links.join_next() => {}
        }
    }
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    mut mood: watch::Receiver<Mood>,
    link: Link,
) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let (up, down) = (mood.clone(), mood.clone());
    // Whatever ends first ends the link, so nothing that is cancelled here is missed.
    let ended = tokio::select! {
        ended = pump(client_read, server_write, up, &link, |bytes| link.hears(bytes)) => ended,
        ended = pump(server_read, client_write, down, &link, |_| link.answers()) => ended,
        _ = mood.wait_for(|mood| link.is_cut(mood)) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if ended.is_err() {
        // Make the close a reset, so that both ends notice at once.
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mood: watch::Receiver<Mood>,
    link: &Link,
    hears: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        hears(&buffer[..length]);
        // An error means that the proxy is gone, and this task with it.
        if mood.wait_for(|mood| link.moves(mood)).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
