//! The loop of one run: sends what is due, takes what comes back, and counts.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::flight::{Flight, Sent};
use super::groups::Place;
use super::measure::{OK, Stage, Tally, Times};
use super::mix::{self, Mix};
use super::pace::{Pace, Schedule};
use crate::cli::exit::Failure;
use crate::contract::CommandType;
use crate::lifecycle::Signals;

/// The interval of looking for lost requests and of drawing the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// More than what timers may be late.
const TIMER: Duration = Duration::from_millis(10);

/// What comes back is taken in batches of at most this size, so that requests that are due do not wait.
const BATCH: usize = 64;

/// The most requests that are handed over and not confirmed: a broker that accepts nothing must not fill the memory.
const UNCONFIRMED: usize = 10_000;

/// The longest wait for events after the last reply.
const EVENTS_WITHIN: Duration = Duration::from_secs(1);

/// A request to be sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) number: u64,
    pub(super) command: CommandType,
    pub(super) place: &'a Place,
    pub(super) payload: Value,
}

/// What comes back.
#[derive(Debug)]
pub(super) enum Feedback {
    Confirmed(u64),
    /// The answer to a request, and its outcome.
    Answered(u64, String),
    /// There will be no answer to a request, and why.
    Refused(u64, String),
    /// An event that a request caused.
    Event(u64),
    /// A delivery of that event, and since when it was due; the last one is the answer.
    Delivered {
        number: u64,
        since: Instant,
        is_last: bool,
    },
    /// Something that came before, or too late.
    Repeated,
    /// Something else, such as the event of another command.
    Other,
}

/// What carries the requests.
pub(super) trait Transport {
    /// The stages that it measures; the first ends with the answer.
    fn stages(&self) -> &'static [Stage];

    /// Hands a request over.
    fn send(&mut self, request: Request<'_>);

    /// The number of requests that are handed over and may not have been written.
    fn unwritten(&self) -> usize;

    /// What comes back next; cancel-safe.
    async fn next(&mut self) -> Result<Feedback, Failure>;

    /// Forgets the requests with lower numbers: nothing that comes back about them counts any more.
    fn forget(&mut self, _below: u64) {}
}

/// What is the same for all runs.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) mix: &'a Mix,
    pub(super) places: &'a [Place],
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
}

/// What one run came to.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) pace: Pace,
    pub(super) stages: &'static [Stage],
    /// The measured time.
    pub(super) time: Duration,
    /// Answers that came within that time.
    pub(super) answered_within: u64,
    /// Deliveries that came within that time.
    pub(super) delivered_within: u64,
    /// By the place in the mix.
    pub(super) kinds: Vec<Tally>,
    /// How late the requests were handed over.
    pub(super) late: Times,
    /// Requests that were due and never handed over.
    pub(super) unsent: u64,
    /// Answers and deliveries that came before, or after their request was counted as lost.
    pub(super) repeated: u64,
    pub(super) interrupted: bool,
}

impl Measured {
    /// The number of requests without an answer in time.
    pub(super) fn lost(&self) -> u64 {
        self.kinds.iter().map(|it| it.lost).sum()
    }
}

/// A run.
pub(super) struct Run<'a, T> {
    plan: &'a Plan<'a>,
    transport: &'a mut T,
    flight: &'a mut Flight,
    signals: &'a mut Signals,
    schedule: Schedule,
    measured: Measured,
    alarm: Alarm,
    next_tick: Instant,
    bar: ProgressBar,
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Over,
    Interrupted,
}

impl<'a, T: Transport> Run<'a, T> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        pace: Pace,
        transport: &'a mut T,
        flight: &'a mut Flight,
        signals: &'a mut Signals,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        let stages = transport.stages();
        let kinds = plan.mix.commands().map(|_| Tally::new(stages));
        let measured = Measured {
            pace,
            stages,
            time: Duration::ZERO,
            answered_within: 0,
            delivered_within: 0,
            kinds: kinds.collect::<anyhow::Result<_>>()?,
            late: Times::new()?,
            unsent: 0,
            repeated: 0,
            interrupted: false,
        };
        Ok(Self {
            plan,
            transport,
            flight,
            signals,
            schedule: Schedule::new(pace, now, plan.warm_up, plan.duration),
            measured,
            alarm: Alarm::new().context("cannot start a thread")?,
            next_tick: now + TICK,
            bar: bar(plan.warm_up + plan.duration),
        })
    }

    /// Sends and measures; what was measured is returned whatever ends the run.
    pub(super) async fn run(mut self) -> (Measured, Result<(), Failure>) {
        let sent = self.send().await;
        self.schedule.stop(Instant::now());
        self.measured.time = self.schedule.measured_time();
        self.measured.unsent = self.schedule.unsent();
        let ended = match sent {
            Ok(ended) => {
                self.measured.interrupted = ended == Ended::Interrupted;
                self.drain().await
            }
            Err(failure) => Err(failure),
        };
        self.bar.finish_and_clear();
        let ended = ended.map(|ended| self.measured.interrupted |= ended == Ended::Interrupted);
        for sent in self.flight.clear() {
            if let Some(tally) = self.tally(sent) {
                tally.unanswered += 1;
            }
        }
        self.transport.forget(self.flight.first());
        (self.measured, ended)
    }

    /// Sends until the time is over.
    async fn send(&mut self) -> Result<Ended, Failure> {
        loop {
            let now = Instant::now();
            if now >= self.schedule.end() {
                self.send_last(now);
                return Ok(Ended::Over);
            }
            self.tick(now);
            self.send_due(now);
            let due = self.due(now).unwrap_or(self.next_tick);
            let until = due.min(self.next_tick).min(self.schedule.end());
            if self.wait(until).await? == Ended::Interrupted {
                return Ok(Ended::Interrupted);
            }
        }
    }

    /// Hands over what was due just before the end, since timers have a granularity; not a backlog.
    fn send_last(&mut self, now: Instant) {
        let end = self.schedule.end();
        if self.due(now).is_some_and(|due| due + TIMER >= end) {
            for _ in 0..UNCONFIRMED / BATCH {
                self.send_due(now);
            }
        }
    }

    /// Waits for what is still to come; what does not come in time is lost.
    async fn drain(&mut self) -> Result<Ended, Failure> {
        let mut answered = Instant::now();
        loop {
            let now = Instant::now();
            self.tick(now);
            if self.flight.unanswered() > 0 {
                answered = now;
            } else if self.flight.events() == 0 || now >= answered + EVENTS_WITHIN {
                return Ok(Ended::Over);
            }
            if self.wait(self.next_tick).await? == Ended::Interrupted {
                return Ok(Ended::Interrupted);
            }
        }
    }

    /// Takes what comes back until a time, or until a batch has been taken.
    async fn wait(&mut self, until: Instant) -> Result<Ended, Failure> {
        // All branches are cancel-safe.
        let first = tokio::select! {
            biased;
            _ = self.signals.stop() => return Ok(Ended::Interrupted),
            feedback = self.transport.next() => feedback?,
            () = self.alarm.until(until) => return Ok(Ended::Over),
            () = tokio::time::sleep_until(self.next_tick) => return Ok(Ended::Over),
        };
        self.take(first);
        for _ in 1..BATCH {
            let Some(feedback) = self.transport.next().now_or_never() else {
                break;
            };
            self.take(feedback?);
        }
        Ok(Ended::Over)
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let has_room = self.transport.unwritten() < UNCONFIRMED;
        let due = self.schedule.due(now, self.flight.unanswered());
        due.filter(|due| has_room && *due < self.schedule.end())
    }

    /// Hands over what is due by now, at most a batch.
    fn send_due(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Some(due) = self.due(now).filter(|due| *due <= now) else {
                break;
            };
            let number = self.flight.next();
            let place = usize::try_from(number).unwrap_or(0) % self.plan.places.len().max(1);
            let drawn = self.plan.mix.draw().zip(self.plan.places.get(place));
            let Some(((kind, command), place)) = drawn else {
                break;
            };
            let Some(payload) = mix::payload(command, place, number) else {
                break;
            };
            self.transport.send(Request {
                number,
                command,
                place,
                payload,
            });
            self.schedule.sent();
            self.note_sent(due, kind, command);
        }
    }

    fn note_sent(&mut self, due: Instant, kind: usize, command: CommandType) {
        let stages = self.transport.stages();
        let counted = self.schedule.is_measured(due).then_some(kind);
        if counted.is_some() {
            self.measured.late.add(due, Instant::now());
        }
        let sent = Sent {
            due,
            counted,
            awaits_confirm: stages.contains(&Stage::Confirm),
            awaits_answer: true,
            awaits_event: stages.contains(&Stage::Event) && mix::may_cause_event(command),
        };
        if let Some(tally) = self.tally(sent) {
            tally.sent += 1;
        }
        self.flight.add(sent);
    }

    fn take(&mut self, feedback: Feedback) {
        let now = Instant::now();
        match feedback {
            Feedback::Confirmed(number) => {
                let sent = self.flight.confirm(number);
                self.time(sent, Stage::Confirm, now);
            }
            Feedback::Answered(number, outcome) => match self.flight.answer(number) {
                None => self.measured.repeated += 1,
                Some(sent) => self.answered(sent, &outcome, now),
            },
            Feedback::Refused(number, outcome) => {
                let sent = self.flight.answer(number);
                if let Some(tally) = sent.and_then(|it| self.tally(it)) {
                    tally.count(&outcome);
                }
            }
            Feedback::Event(number) => {
                let sent = self.flight.event(number);
                self.time(sent, Stage::Event, now);
            }
            Feedback::Delivered {
                number,
                since,
                is_last,
            } => self.delivered(number, since, is_last, now),
            Feedback::Repeated => self.measured.repeated += 1,
            Feedback::Other => {}
        }
    }

    fn delivered(&mut self, number: u64, since: Instant, is_last: bool, now: Instant) {
        let Some(sent) = self.flight.get(number) else {
            self.measured.repeated += 1;
            return;
        };
        self.measured.delivered_within += u64::from(self.is_within(now));
        if let Some(tally) = self.tally(sent) {
            tally.time(Stage::Delivery, since, now);
        }
        if is_last {
            self.take(Feedback::Answered(number, OK.to_owned()));
        }
    }

    /// Whether a time is within the measured time.
    fn is_within(&self, now: Instant) -> bool {
        now >= self.schedule.measured_from() && now < self.schedule.end()
    }

    fn answered(&mut self, sent: Sent, outcome: &str, now: Instant) {
        self.measured.answered_within += u64::from(self.is_within(now));
        if let Some(tally) = self.tally(sent) {
            tally.count(outcome);
        }
        let stage = self.transport.stages().first();
        if let Some(stage) = stage {
            self.time(Some(sent), *stage, now);
        }
    }

    fn time(&mut self, sent: Option<Sent>, stage: Stage, now: Instant) {
        if let Some(sent) = sent
            && let Some(tally) = self.tally(sent)
        {
            tally.time(stage, sent.due, now);
        }
    }

    /// Where a request is counted; none in the warm-up.
    fn tally(&mut self, sent: Sent) -> Option<&mut Tally> {
        self.measured.kinds.get_mut(sent.counted?)
    }

    /// Counts requests whose answer did not come in time, and shows the progress.
    fn tick(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        if let Some(before) = now.checked_sub(self.plan.timeout) {
            for sent in self.flight.expire(before) {
                if let Some(tally) = self.tally(sent) {
                    tally.lost += 1;
                }
            }
            self.transport.forget(self.flight.first());
        }
        self.draw(now);
    }

    fn draw(&self, now: Instant) {
        let left = self.schedule.end().saturating_duration_since(now);
        let whole = self.plan.warm_up + self.plan.duration;
        self.bar.set_position(tenths(whole.saturating_sub(left)));
        let is_warming = now < self.schedule.measured_from();
        let phase = if is_warming { "warm-up, " } else { "" };
        let waiting = self.flight.unanswered();
        let pace = self.measured.pace;
        self.bar
            .set_message(format!("{pace}: {phase}{waiting} without an answer"));
    }
}

/// The progress bar; indicatif draws on stderr, and only on a terminal.
fn bar(time: Duration) -> ProgressBar {
    let bar = ProgressBar::new(tenths(time));
    let style = ProgressStyle::with_template("{bar:30} {wide_msg}");
    style.map(|it| bar.clone().with_style(it)).unwrap_or(bar)
}

fn tenths(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / 100).unwrap_or(u64::MAX)
}
