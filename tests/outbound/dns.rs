//! A small DNS server on loopback, over UDP, that answers what a test says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What a name leads to.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These addresses, those of the kind that was asked for; for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// This code, and nothing else.
    Code(ResponseCode),
    /// No answer at all.
    Silence,
}

/// The server; it is there for as long as this is.
pub(crate) struct Dns {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Dns {
    /// Answers a question for a name; the number says how often that name's addresses of this kind were
    /// asked for before.
    pub(crate) async fn start(answer: impl Fn(&str, usize) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, asked.clone(), answer));
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }

    /// Always answers so.
    pub(crate) async fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone()).await
    }

    /// Always leads to these addresses.
    pub(crate) async fn leading_to(addresses: &[&str]) -> Self {
        Self::always(to(addresses)).await
    }

    /// For `egress.dns`.
    pub(crate) fn setting(&self) -> String {
        self.address.to_string()
    }

    /// How many questions came.
    pub(crate) fn questions(&self) -> usize {
        self.asked.lock().len()
    }
}

/// These addresses, not to be kept.
pub(crate) fn to(addresses: &[&str]) -> Reply {
    Reply::Addresses(
        addresses.iter().map(|text| text.parse().unwrap()).collect(),
        0,
    )
}

async fn serve(
    socket: UdpSocket,
    asked: Arc<Mutex<Vec<String>>>,
    answer: impl Fn(&str, usize) -> Reply,
) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let Some(query) = question.queries.first().cloned() else {
            continue;
        };
        let name = query.name().to_string().trim_end_matches('.').to_owned();
        let key = format!("{name} {}", query.query_type());
        let before = {
            let mut asked = asked.lock();
            asked.push(key.clone());
            asked.iter().filter(|one| **one == key).count() - 1
        };
        let mut response = question.into_response();
        response.metadata.recursion_available = true;
        match answer(&name, before) {
            Reply::Silence => continue,
            Reply::Code(code) => response.metadata.response_code = code,
            Reply::Addresses(addresses, ttl) => {
                let wanted = addresses.into_iter().filter(|ip| match query.query_type() {
                    RecordType::A => ip.is_ipv4(),
                    RecordType::AAAA => ip.is_ipv6(),
                    _ => false,
                });
                for ip in wanted {
                    let record = Record::from_rdata(query.name().clone(), ttl, RData::from(ip));
                    response.add_answer(record);
                }
            }
        }
        socket
            .send_to(&response.to_vec().unwrap(), from)
            .await
            .unwrap();
    }
}
