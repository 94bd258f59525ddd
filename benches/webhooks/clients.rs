//! What groupmq is compared with: processes that POST with its client and do nothing else of what it does.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use groupmq::config::Sources;
use groupmq::outbound::{AddressPolicy, Method, Outbound, Request};
use groupmq_test_support::announcer::Announcement;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::process::{Child, Command};

use super::{AT_ONCE, DELIVERIES, endpoint};

/// Messages that are open at the same time: as many as groupmq has.
const PREFETCH: u16 = 32;

/// A process that POSTs; it ends with its value.
pub(super) struct Client(Child);

impl Client {
    /// Starts this program again as a client.
    pub(super) fn start(words: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        Self(command.spawn().unwrap())
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.0.id().unwrap()
    }

    /// Gives it time to acknowledge, and waits until it has ended.
    pub(super) async fn end(mut self) {
        assert!(self.0.wait().await.unwrap().success());
    }
}

/// Does what the words want, if they are a client's.
pub(super) async fn run(words: &[String]) -> bool {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["post", address, endpoints, at_once] => {
            let poster = Poster::new(address);
            let loops = endpoints.parse::<usize>().unwrap() * at_once.parse::<usize>().unwrap();
            let body = Bytes::from(Announcement::new("default", "group.join", 1).body);
            let tasks = (0..loops).map(|_| {
                let (poster, body) = (poster.clone(), body.clone());
                tokio::spawn(async move {
                    for _ in 0..DELIVERIES / loops {
                        poster.post(0, body.clone()).await;
                    }
                })
            });
            all(tasks.collect()).await;
        }
        ["consume", address, endpoints, url, prefix] => {
            let poster = Poster::new(address);
            let endpoints = endpoints.parse().unwrap();
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(url, properties).await.unwrap();
            let mut tasks = Vec::new();
            for number in 0..endpoints {
                let channel = connection.create_channel().await.unwrap();
                let queue = format!("{prefix}.webhook.{}", endpoint(number));
                let count = DELIVERIES / endpoints;
                tasks.push(tokio::spawn(consume(
                    channel,
                    queue,
                    poster.clone(),
                    number,
                    count,
                )));
            }
            all(tasks).await;
            connection.close(200, "".into()).await.unwrap();
        }
        _ => return false,
    }
    true
}

async fn all(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for ended in join_all(tasks).await {
        ended.unwrap();
    }
}

/// Takes messages from a queue, POSTs some at a time, and acknowledges them, many as one.
async fn consume(channel: Channel, queue: String, poster: Poster, number: usize, count: usize) {
    let qos = BasicQosOptions::default();
    channel.basic_qos(PREFETCH, qos).await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let messages = channel.basic_consume(queue.as_str().into(), "".into(), options, none);
    let mut answered = messages
        .await
        .unwrap()
        .map(|message| async {
            let message = message.unwrap();
            poster.post(number, message.data.into()).await;
            message.delivery_tag
        })
        .buffered(AT_ONCE)
        .take(count);
    let (mut open, mut last) = (0, 0);
    while let Some(tag) = answered.next().await {
        (open, last) = (open + 1, tag);
        if open == PREFETCH / 2 {
            let all = BasicAckOptions { multiple: true };
            channel.basic_ack(tag, all).await.unwrap();
            open = 0;
        }
    }
    if open > 0 {
        let all = BasicAckOptions { multiple: true };
        channel.basic_ack(last, all).await.unwrap();
    }
    // Answered after everything that was sent before.
    channel.basic_qos(PREFETCH, qos).await.unwrap();
}

/// groupmq's client, on its own.
#[derive(Clone)]
struct Poster {
    outbound: Outbound,
    address: SocketAddr,
}

impl Poster {
    fn new(address: &str) -> Self {
        let settings = Sources::default().load().unwrap().egress;
        Self {
            outbound: Outbound::new(&settings, AddressPolicy::Any).unwrap(),
            address: address.parse().unwrap(),
        }
    }

    async fn post(&self, endpoint: usize, body: Bytes) {
        let url = format!("http://{}/{endpoint}", self.address);
        let request = Request {
            method: Method::POST,
            url: url.parse().unwrap(),
            headers: Vec::new(),
            body,
            deadline: Duration::from_secs(15),
            body_limit: 16 * 1024,
        };
        assert_eq!(self.outbound.send(request).await.unwrap().status, 204);
    }
}
