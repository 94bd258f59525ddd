//! A gateway with a worker behind it, and an HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// A machine that compiles at the same time is slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The real binary with both roles, ready.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) worker: Worker,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|options| options).await
    }

    /// With settings.
    pub(crate) async fn with(settings: impl FnOnce(Options) -> Options) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        let prefix = groupmq_test_support::prefix();
        let address = groupmq_test_support::free_address();
        let options = options(&broker.url(), &prefix)
            .set("roles", "commands,gateway")
            .set("gateway.listen", address.to_string());
        let worker = Worker::start(&settings(options)).await.unwrap();
        Self {
            client: client(),
            address,
            worker,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, self.url(path))
    }

    /// Sends a request with a body, or without one where it is null.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path);
        answer(if body.is_null() {
            request
        } else {
            with_json(request, body)
        })
        .await
    }

    /// Creates a group of `default`'s and returns its id.
    pub(crate) async fn group(&self, people: &[&str]) -> String {
        let people: Vec<_> = people.iter().map(|id| json!({ "id": id })).collect();
        let body = json!({ "name": "Group name", "participants": people });
        let made = self.send("POST", "/api/default/groups", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["id"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Sees that it is a problem of this status and code.
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        assert_eq!(problem["type"], format!("urn:groupmq:problem:{code}"));
    }
}

pub(crate) fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}

/// A client that follows no redirects and waits long enough.
pub(crate) fn client() -> Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

pub(crate) fn options(url: &str, prefix: &str) -> Options {
    Options::new(env!("CARGO_BIN_EXE_groupmq"), url, prefix).set("topology.delay_tiers", "1s")
}
