//! `groupmq bench commands`: load over AMQP, as a producer causes it.

use std::borrow::Cow;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use serde_json::Map;
use uuid::Uuid;

use super::check;
use super::load::{Feedback, Request, Transport};
use super::measure::{OK, Stage};
use super::options::{LoadOptions, MixOption};
use super::report::About;
use super::series::Series;
use crate::amqp::{Client, Feedback as LoadFeedback, Incoming, Load, Names, Target};
use crate::cli::exit::{Exit, Failure};
use crate::cli::send;
use crate::config::Config;
use crate::contract::{EngineName, ReplyStatus};

/// The outcome of a command that the broker refused.
const NACK: &str = "nack";

/// The options of `groupmq bench commands`.
///
/// It uses the broker and the prefix of the configuration, and a worker that runs there. Without --rate or --rates it
/// is a closed loop.
#[derive(Debug, Args)]
pub(in crate::cli) struct Commands {
    #[command(flatten)]
    chosen: MixOption,
    #[command(flatten)]
    load: LoadOptions,
    /// Also measure the time until the first event of a command; the broker then sends all events here, too.
    #[arg(long)]
    events: bool,
}

/// What the load needs of a reply.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    status: ReplyStatus,
    engine: EngineName,
    #[serde(borrow, default)]
    error: Option<AnswerError<'a>>,
}

#[derive(Debug, Deserialize)]
struct AnswerError<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
}

/// What the load needs of an event.
#[derive(Debug, Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    payload: EventPayload<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventPayload<'a> {
    #[serde(borrow, default)]
    command_id: Option<Cow<'a, str>>,
}

impl Commands {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        self.load.check(&self.chosen.mix)?;
        let names = Names::new(&config.topology.prefix);
        let target = Target::new(config.amqp);
        let client = Client::connect(&target).await?;
        let mut caller = client.caller().await?;
        check::engines(&mut caller, &names, &self.load).await?;
        let run = format!("bench-{}", Uuid::now_v7().simple());
        let mut transport = Amqp::connect(&target, &names, &run, &self.load, self.events).await?;
        let series = Series {
            about: About {
                kind: "commands",
                options: &self.load,
                mix: &self.chosen.mix,
                endpoints: None,
                broker: target.broker().map(|it| it.to_string()),
            },
            setup: self.load.setup(&names, &run),
        };
        let exit = series.run(&mut caller, &mut transport).await;
        transport.close().await;
        client.close().await;
        exit
    }
}

const REPLIES: [Stage; 2] = [Stage::Reply, Stage::Confirm];
const EVENTS: [Stage; 3] = [Stage::Reply, Stage::Confirm, Stage::Event];

/// Commands over AMQP.
pub(super) struct Amqp<'a> {
    load: Load,
    names: &'a Names,
    run: &'a str,
    allow_real_accounts: bool,
    stages: &'static [Stage],
}

impl Transport for Amqp<'_> {
    fn stages(&self) -> &'static [Stage] {
        self.stages
    }

    fn send(&mut self, request: Request<'_>) {
        let id = format!("{}-{}", self.run, request.number);
        let rest = Map::from_iter([("payload".to_owned(), request.payload)]);
        let (session, command) = (&request.place.session, request.command.as_str());
        let message = send::message(self.names, session, command, id, rest);
        self.load.publish(request.number, message);
    }

    fn unwritten(&self) -> usize {
        self.load.unconfirmed()
    }

    async fn next(&mut self) -> Result<Feedback, Failure> {
        Ok(match self.load.next().await? {
            LoadFeedback::Confirmed(number) => Feedback::Confirmed(number),
            LoadFeedback::Refused(number) => Feedback::Refused(number, NACK.to_owned()),
            LoadFeedback::Reply(reply) => self.reply(&reply)?,
            LoadFeedback::Event(event) => self.event(&event),
        })
    }
}

impl<'a> Amqp<'a> {
    /// Connects, and listens to the events of the sessions if they are wanted.
    pub(super) async fn connect(
        target: &Target,
        names: &'a Names,
        run: &'a str,
        options: &LoadOptions,
        events: bool,
    ) -> Result<Self, Failure> {
        let mut load = Load::connect(target).await?;
        if events {
            let sessions = options.sessions.iter();
            let patterns: Vec<_> = sessions.map(|it| format!("{it}.#")).collect();
            load.listen(&names.events(), &patterns).await?;
        }
        Ok(Self {
            load,
            names,
            run,
            allow_real_accounts: options.allow_real_accounts,
            stages: if events { &EVENTS } else { &REPLIES },
        })
    }

    pub(super) async fn close(self) {
        self.load.close().await;
    }

    /// Reads a reply; stops the load if it is not from the sandbox any more.
    fn reply(&self, reply: &Incoming) -> Result<Feedback, Failure> {
        let number = reply.correlation_id.as_ref().and_then(|it| it.parse().ok());
        let answer: Answer<'_> =
            serde_json::from_slice(&reply.body).context("a reply cannot be parsed")?;
        check::engine(answer.engine, self.allow_real_accounts)?;
        let outcome = match (answer.status, answer.error) {
            (ReplyStatus::Ok, _) => OK.to_owned(),
            (ReplyStatus::Error, error) => error.map_or_else(String::new, |it| it.code.into()),
        };
        Ok(number.map_or(Feedback::Other, |number| {
            Feedback::Answered(number, outcome)
        }))
    }

    /// The number of the command that caused an event.
    fn event(&self, event: &Incoming) -> Feedback {
        command_number(&event.body, self.run).map_or(Feedback::Other, Feedback::Event)
    }
}

/// The number of the command of this run that caused an event; none for other messages.
pub(super) fn command_number(event: &[u8], run: &str) -> Option<u64> {
    // Notices, such as test events of webhooks, have another form.
    let event: Event<'_> = serde_json::from_slice(event).ok()?;
    let id = event.payload.command_id?;
    id.strip_prefix(run)?.strip_prefix('-')?.parse().ok()
}
