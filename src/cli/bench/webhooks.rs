//! `groupmq bench webhooks`: commands whose events go to webhook endpoints that this process serves.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::check;
use super::commands::{Amqp, command_number};
use super::load::{Feedback, Request, Transport};
use super::measure::{OK, Stage};
use super::mix::Mix;
use super::options::LoadOptions;
use super::report::About;
use super::series::Series;
use super::setup::{self, Setup, Step};
use crate::amqp::{Caller, Client, Names, Target};
use crate::cli::calls::Answer;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::config::Config;
use crate::contract::{CommandType, EventName, SessionName};
use crate::lifecycle::Signals;

/// The most endpoints: a bit for each in `Open`.
const ENDPOINTS_MAX: u32 = 64;

/// The most deliveries that are received and not taken; further ones wait, and so do their answers.
const ARRIVALS: usize = 1024;

/// The longest wait for the test events.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// The command whose events are delivered: each causes one.
const COMMAND: CommandType = CommandType::SetGroupSubject;

/// The options of `groupmq bench webhooks`.
///
/// It uses the broker and the prefix of the configuration, and a worker with the roles commands and webhooks that runs
/// there on this machine and may reach 127.0.0.1 (egress.allow). A command counts as answered when all endpoints have
/// its event. Without --rate or --rates it is a closed loop.
#[derive(Debug, Args)]
pub(in crate::cli) struct Webhooks {
    /// The number of endpoints of each session.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(ENDPOINTS_MAX)))]
    endpoints: u32,
    #[command(flatten)]
    load: LoadOptions,
}

impl Webhooks {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        let mix = Mix::only(COMMAND);
        self.load.check(&mix)?;
        let names = Names::new(&config.topology.prefix);
        let target = Target::new(config.amqp);
        let client = Client::connect(&target).await?;
        let mut caller = client.caller().await?;
        check::engines(&mut caller, &names, &self.load).await?;
        let run = format!("bench-{}", Uuid::now_v7().simple());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr().context("cannot listen")?;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let mut transport = Deliveries {
            amqp: Amqp::connect(&target, &names, &run, &self.load, true).await?,
            arrivals,
            all: u64::MAX >> (u64::BITS - self.endpoints),
            open: BTreeMap::new(),
        };
        let endpoints = Endpoints {
            setup: self.load.setup(&names, &run),
            sessions: &self.load.sessions,
            count: self.endpoints,
            address,
            within: self.load.timeout.min(DELIVERED_WITHIN),
        };
        let series = Series {
            about: About {
                kind: "webhooks",
                options: &self.load,
                mix: &mix,
                endpoints: Some(self.endpoints),
                broker: target.broker().map(|it| it.to_string()),
            },
            setup: self.load.setup(&names, &run),
        };
        let receiver = Receiver {
            run: run.clone().into(),
            arrivals: sender,
        };
        let measure = async {
            let measured = match endpoints.set(&mut caller, &mut transport.arrivals).await {
                Ok(()) => series.run(&mut caller, &mut transport).await,
                Err(failure) => Err(failure),
            };
            endpoints.remove(&mut caller).await;
            measured
        };
        // The server is dropped with the work that it is for.
        let exit = tokio::select! {
            exit = measure => exit,
            ended = axum::serve(listener, receiver.router()) => {
                Err(anyhow::anyhow!("the receiver of deliveries ended: {ended:?}").into())
            }
        };
        transport.amqp.close().await;
        client.close().await;
        exit
    }
}

/// The endpoints of a run.
struct Endpoints<'a> {
    setup: Setup<'a>,
    sessions: &'a [SessionName],
    count: u32,
    address: SocketAddr,
    /// The longest wait for the first deliveries.
    within: Duration,
}

impl Endpoints<'_> {
    /// Sets the endpoints, and waits until each has got a test event.
    async fn set(
        &self,
        caller: &mut Caller<'_>,
        arrivals: &mut mpsc::Receiver<Arrival>,
    ) -> Result<(), Failure> {
        let mut signals = Signals::listen().context("cannot handle signals")?;
        let took = |_: &SessionName, answer: &Answer| {
            setup::check(answer, "a webhook endpoint cannot be set")
        };
        let set = self.each(CommandType::SetWebhook, |id, number| {
            let url = format!("http://{}/{number}", self.address);
            json!({ "id": id, "url": url, "events": [EventName::GroupUpdate.as_str()] })
        });
        self.setup.all(caller, set, &mut signals, took).await?;
        let test = self.each(CommandType::TestWebhook, |id, _| json!({ "id": id }));
        let expected = test.len();
        self.setup.all(caller, test, &mut signals, took).await?;
        let arrived = async {
            for _ in 0..expected {
                arrivals.recv().await;
            }
        };
        let arrived = tokio::time::timeout(self.within, arrived).await;
        arrived.map_err(|_| {
            Failure::NoWorker(format!(
                "not every test event was delivered to http://{} within {:?}. The worker must run on \
                 this machine with the role webhooks, and its egress.allow must contain 127.0.0.1; `groupmq webhooks \
                 deliveries` and its log show why deliveries fail",
                self.address, self.within
            ))
        })
    }

    /// Removes the endpoints with what waits for them; a failure is printed.
    async fn remove(&self, caller: &mut Caller<'_>) {
        let payload = |id, _| json!({ "id": id, "discard": true });
        let steps = self.each(CommandType::RemoveWebhook, payload);
        let all = steps.len();
        let mut removed = 0;
        let took = |_: &SessionName, answer: &Answer| {
            removed += usize::from(answer.reply.error.is_none());
            Ok(())
        };
        let ended = match Signals::listen() {
            Ok(mut signals) => self.setup.all(caller, steps, &mut signals, took).await,
            Err(error) => Err(Failure::Other(error.into())),
        };
        if removed < all {
            let why = ended.err().map(|it| format!(": {it}")).unwrap_or_default();
            output::note(&format!(
                "{} webhook endpoints whose ids begin with {:?} may be left{why}",
                all - removed,
                self.setup.run
            ));
        }
    }

    fn each(&self, command: CommandType, payload: impl Fn(String, u32) -> Value) -> Vec<Step> {
        let sessions = self.sessions.iter();
        let each =
            sessions.flat_map(|session| (0..self.count).map(move |number| (session, number)));
        let step = |(session, number): (&SessionName, u32)| {
            let id = format!("{}-{number}", self.setup.run);
            (session.clone(), command, payload(id, number))
        };
        each.map(step).collect()
    }
}

/// A delivery that arrived.
#[derive(Debug)]
struct Arrival {
    endpoint: u32,
    /// The number of the command that caused the event; none for other events.
    command: Option<u64>,
}

/// Receives the deliveries, and answers each at once.
#[derive(Debug, Clone)]
struct Receiver {
    run: std::sync::Arc<str>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Receiver {
    fn router(self) -> Router {
        Router::new()
            .route("/{endpoint}", post(receive))
            .with_state(self)
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    Path(endpoint): Path<u32>,
    body: Bytes,
) -> StatusCode {
    let command = command_number(&body, &receiver.run);
    let arrival = Arrival { endpoint, command };
    // Without anybody who takes it, the run is over.
    match receiver.arrivals.send(arrival).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Commands over AMQP, each of which is answered when its event has been delivered to all endpoints.
struct Deliveries<'a> {
    amqp: Amqp<'a>,
    arrivals: mpsc::Receiver<Arrival>,
    /// A bit for each endpoint.
    all: u64,
    /// By the command's number.
    open: BTreeMap<u64, Open>,
}

/// A command whose event has not been delivered to all endpoints.
#[derive(Debug, Default)]
struct Open {
    event_at: Option<Instant>,
    /// A bit for each endpoint that has it.
    delivered: u64,
}

impl Transport for Deliveries<'_> {
    fn stages(&self) -> &'static [Stage] {
        const {
            &[
                Stage::Delivered,
                Stage::Confirm,
                Stage::Event,
                Stage::Delivery,
            ]
        }
    }

    fn send(&mut self, request: Request<'_>) {
        self.open.insert(request.number, Open::default());
        self.amqp.send(request);
    }

    fn unwritten(&self) -> usize {
        self.amqp.unwritten()
    }

    async fn next(&mut self) -> Result<Feedback, Failure> {
        // Both branches are cancel-safe.
        tokio::select! {
            feedback = self.amqp.next() => Ok(self.published(feedback?)),
            Some(arrival) = self.arrivals.recv() => Ok(self.arrived(&arrival)),
        }
    }

    fn forget(&mut self, below: u64) {
        self.open = self.open.split_off(&below);
    }
}

impl Deliveries<'_> {
    /// What the broker sent back; a reply says whether there will be an event.
    fn published(&mut self, feedback: Feedback) -> Feedback {
        match feedback {
            Feedback::Answered(_, outcome) if outcome == OK => Feedback::Other,
            Feedback::Answered(number, outcome) => {
                self.open.remove(&number);
                Feedback::Refused(number, outcome)
            }
            Feedback::Event(number) => {
                if let Some(open) = self.open.get_mut(&number) {
                    open.event_at.get_or_insert_with(Instant::now);
                }
                feedback
            }
            other => other,
        }
    }

    fn arrived(&mut self, arrival: &Arrival) -> Feedback {
        let Some(number) = arrival.command else {
            return Feedback::Other;
        };
        let endpoint = 1_u64.checked_shl(arrival.endpoint).unwrap_or(0) & self.all;
        let Some(open) = self.open.get_mut(&number) else {
            return Feedback::Repeated;
        };
        if endpoint == 0 || open.delivered & endpoint != 0 {
            return Feedback::Repeated;
        }
        open.delivered |= endpoint;
        // A delivery may overtake the event; then it took no time.
        let since = open.event_at.unwrap_or_else(Instant::now);
        let is_last = open.delivered == self.all;
        if is_last {
            self.open.remove(&number);
        }
        Feedback::Delivered {
            number,
            since,
            is_last,
        }
    }
}
