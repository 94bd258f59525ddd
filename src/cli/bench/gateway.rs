//! `groupmq bench gateway`: load over HTTP, by WAHA's paths.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::check::{self, ANSWER_WITHIN};
use super::load::{Feedback, Request, Transport};
use super::measure::{OK, Stage};
use super::mix::Mix;
use super::options::{LoadOptions, MixOption};
use super::report::About;
use super::series::Series;
use crate::amqp::{Client, Names, Target};
use crate::cli::exit::{Exit, Failure};
use crate::cli::healthcheck::reachable;
use crate::cli::output;
use crate::config::Config;
use crate::contract::{CommandType, Reply, SessionName};
use crate::outbound::{
    Answer, Failure as NoAnswer, FailureKind, HeaderName, HeaderValue, Method, Outbound,
    Request as HttpRequest,
};

/// How much of an answer is read: all but the longest lists.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// The options of `groupmq bench gateway`.
///
/// It uses the broker and the prefix of the configuration, a worker and a gateway that run there. Without --rate or
/// --rates it is a closed loop, with a connection for each request in flight.
#[derive(Debug, Args)]
pub(in crate::cli) struct Gateway {
    #[command(flatten)]
    chosen: MixOption,
    #[command(flatten)]
    load: LoadOptions,
    /// The URL of the gateway; the default is gateway.listen.
    #[arg(long)]
    url: Option<Url>,
    /// A key of [gateway.keys], or @FILE for a file that holds it.
    #[arg(long)]
    key: Option<String>,
}

impl Gateway {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        self.load.check(&self.chosen.mix)?;
        check_mix(&self.chosen.mix)?;
        let names = Names::new(&config.topology.prefix);
        let run = format!("bench-{}", Uuid::now_v7().simple());
        let url = match self.url {
            Some(url) => url,
            None => format!("http://{}", reachable(config.gateway.listen))
                .parse()
                .context("gateway.listen is not usable in a URL")?,
        };
        let connections = self.load.connections();
        let mut http = Http {
            client: Outbound::to_one_server(&config.egress, connections)
                .context("cannot create an HTTP client")?,
            base: url,
            key: self.key.as_deref().map(key).transpose()?,
            run: run.clone(),
            timeout: self.load.timeout,
            requests: FuturesUnordered::new(),
            first_failure: None,
        };
        let target = Target::new(config.amqp);
        let client = Client::connect(&target).await?;
        for session in &self.load.sessions {
            http.check(&client, &names, session, self.load.allow_real_accounts)
                .await?;
        }
        let mut caller = client.caller().await?;
        let series = Series {
            about: About {
                kind: "gateway",
                options: &self.load,
                mix: &self.chosen.mix,
                endpoints: None,
                broker: target.broker().map(|it| it.to_string()),
            },
            setup: self.load.setup(&names, &run),
        };
        let exit = series.run(&mut caller, &mut http).await;
        if let Some(failure) = http.first_failure {
            output::note(&format!("the first request without an answer: {failure}"));
        }
        client.close().await;
        exit
    }
}

type Sent = Pin<Box<dyn Future<Output = (u64, Result<Answer, NoAnswer>)> + Send>>;

/// Requests over HTTP.
struct Http {
    client: Outbound,
    base: Url,
    key: Option<HeaderValue>,
    run: String,
    timeout: Duration,
    requests: FuturesUnordered<Sent>,
    first_failure: Option<NoAnswer>,
}

impl Transport for Http {
    fn stages(&self) -> &'static [Stage] {
        const { &[Stage::Answer] }
    }

    fn send(&mut self, request: Request<'_>) {
        let number = request.number;
        let id = format!("{}-{number}", self.run);
        let session = &request.place.session;
        let built = self.request(request.command, session, request.payload, &id);
        let client = self.client.clone();
        self.requests
            .push(Box::pin(async move { (number, client.send(built).await) }));
    }

    /// Requests without an answer are bounded by rate and timeout, and each is written at once.
    fn unwritten(&self) -> usize {
        0
    }

    async fn next(&mut self) -> Result<Feedback, Failure> {
        let Some((number, answered)) = self.requests.next().await else {
            return std::future::pending().await;
        };
        let failure = match answered {
            Ok(answer) if answer.is_success() => {
                return Ok(Feedback::Answered(number, OK.to_owned()));
            }
            Ok(answer) => return Ok(Feedback::Answered(number, answer.status.to_string())),
            Err(failure) => failure,
        };
        let kind = failure.kind;
        self.first_failure.get_or_insert(failure);
        // One without an answer in time is counted as lost anyway.
        Ok(match kind {
            FailureKind::TimedOut { .. } => Feedback::Other,
            kind => Feedback::Refused(number, kind.name().to_owned()),
        })
    }
}

impl Http {
    /// The request for a command.
    fn request(
        &self,
        command: CommandType,
        session: &str,
        payload: Value,
        id: &str,
    ) -> HttpRequest {
        let (method, path) = route(command).unwrap_or(("GET", "/"));
        let mut fields = match payload {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let group = fields.shift_remove("groupId");
        let group = group.as_ref().and_then(Value::as_str).unwrap_or_default();
        let path = path
            .replace("{session}", session)
            .replace("{groupId}", group);
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut headers = Vec::new();
        let id = HeaderValue::try_from(id).ok();
        headers.extend(id.map(|id| (HeaderName::from_static("idempotency-key"), id)));
        let key = self.key.clone();
        headers.extend(key.map(|key| (HeaderName::from_static("x-api-key"), key)));
        let mut body = Bytes::new();
        if method == "GET" {
            for (name, value) in fields {
                url.query_pairs_mut().append_pair(&name, &value.to_string());
            }
        } else if !fields.is_empty() {
            let json = HeaderValue::from_static("application/json");
            headers.push((HeaderName::from_static("content-type"), json));
            body = Value::Object(fields).to_string().into();
        }
        HttpRequest {
            method: method.parse().unwrap_or(Method::GET),
            url,
            headers,
            body,
            deadline: self.timeout,
            body_limit: ANSWER_MAX,
        }
    }

    /// Checks that the gateway answers for a session, and which engine did: no answer over HTTP says that, but the
    /// reply on the broker does.
    async fn check(
        &self,
        client: &Client,
        names: &Names,
        session: &SessionName,
        allow_real_accounts: bool,
    ) -> Result<(), Failure> {
        let pattern = format!("{session}.#");
        let mut replies = client.tail(&names.replies(), &pattern).await?;
        let command = CommandType::CountGroups;
        let id = format!("{}-{session}", self.run);
        let request = self.request(command, session.as_str(), Value::Null, &id);
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|failure| {
            anyhow::Error::new(failure).context(format!(
                "no gateway answers at {} (--url, gateway.listen)",
                self.base
            ))
        })?;
        if !answer.is_success() {
            let text = output::printable(&answer.text(), 500);
            let status = answer.status;
            return Err(anyhow::anyhow!(
                "the gateway answers for session {session} with {status}: {text}"
            )
            .into());
        }
        let engine = async {
            loop {
                let message = replies.next().await?;
                let reply = serde_json::from_slice::<Reply>(&message.body).ok();
                let ours =
                    reply.filter(|it| it.command_id.as_ref().is_some_and(|it| it.as_str() == id));
                if let Some(reply) = ours {
                    return Ok::<_, Failure>(reply.engine);
                }
            }
        };
        let engine = tokio::time::timeout(self.timeout.min(ANSWER_WITHIN), engine).await;
        let engine = engine.map_err(|_| {
            Failure::Usage(format!(
                "the gateway at {} does not use this broker with the prefix {:?}, so its engine is unknown: bench needs \
                 the configuration of that gateway (amqp.url, topology.prefix)",
                self.base,
                names.prefix()
            ))
        })??;
        check::engine(engine, allow_real_accounts)
    }
}

/// The request of a command: method and path.
fn route(command: CommandType) -> Option<(&'static str, &'static str)> {
    let route = command.endpoint().or(command.own_endpoint())?;
    let (method, path) = route.split_once(' ')?;
    path.starts_with("/api/{session}/")
        .then_some((method, path))
}

/// Refuses commands that the gateway does not have.
fn check_mix(mix: &Mix) -> Result<(), Failure> {
    match mix.commands().find(|it| route(*it).is_none()) {
        None => Ok(()),
        Some(command) => Err(Failure::Usage(format!(
            "the gateway has no request for {}",
            command.as_str()
        ))),
    }
}

/// Reads the argument of `--key`: the key, or `@FILE`.
fn key(given: &str) -> Result<HeaderValue, Failure> {
    let text = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("--key @{file}: {error}")))?,
    };
    HeaderValue::try_from(text.trim())
        .map_err(|_| Failure::Usage("--key: is not a key that a header can hold".to_owned()))
}
