//! How far a run of `groupmq apply` is: a bar on a terminal, lines elsewhere.

use std::collections::HashSet;
use std::future::pending;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::plan::{count, roughly};
use crate::amqp::{Client, Incoming, Names, Tailed, Target};
use crate::cli::output;
use crate::contract::{Event, EventPayload, SessionName};

/// How many groups that are not finished the bar names.
const NAMED: usize = 3;

/// The events of the sessions of a run, where this user may read them.
#[derive(Debug)]
pub(super) struct Watch {
    /// Held for its connection: the broker closes a channel on which something is refused, and this must not be the
    /// channel of the commands.
    _client: Client,
    events: Tailed,
}

impl Watch {
    /// Begins to listen; none without the right to.
    pub(super) async fn begin(
        target: &Target,
        names: &Names,
        sessions: &[&SessionName],
    ) -> Option<Self> {
        let client = Client::connect(target).await.ok()?;
        let (first, others) = sessions.split_first()?;
        let pattern = |session: &SessionName| format!("{session}.group.v2.#");
        let exchange = names.events();
        let events = client.tail(&exchange, &pattern(first)).await.ok()?;
        for session in others {
            client
                .tail_on(&events, &exchange, &pattern(session))
                .await
                .ok()?;
        }
        Some(Self {
            _client: client,
            events,
        })
    }
}

/// The next event; never, where there is no watch any more.
///
/// # Cancellation
/// Dropping the future loses nothing.
pub(super) async fn next(watch: &mut Option<Watch>) -> Incoming {
    if let Some(events) = watch {
        if let Ok(event) = events.events.next().await {
            return event;
        }
        *watch = None;
    }
    pending().await
}

/// A group on its way.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) title: String,
    /// How many people it is about.
    pub(super) people: usize,
    done: usize,
    is_over: bool,
}

impl Part {
    pub(super) const fn new(title: String, people: usize) -> Self {
        Self {
            title,
            people,
            done: 0,
            is_over: false,
        }
    }
}

/// The groups on their way.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    parts: Vec<Part>,
    seen: HashSet<Uuid>,
    until: String,
}

impl Progress {
    pub(super) fn new(parts: Vec<Part>, time: Duration) -> Self {
        let end = jiff::Timestamp::now().checked_add(time).ok();
        let end = end.filter(|_| !time.is_zero());
        let until = end.map_or_else(String::new, |end| {
            let end = end.strftime("%F %H:%M UTC");
            format!("; {}, until {end}", roughly(time))
        });
        let steps: usize = parts.iter().map(|it| it.people + 1).sum();
        // indicatif draws on stderr, and only on a terminal.
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{bar:30} {wide_msg}");
        let bar = style.map(|it| bar.clone().with_style(it)).unwrap_or(bar);
        let progress = Self {
            bar,
            parts,
            seen: HashSet::new(),
            until,
        };
        if progress.bar.is_hidden() {
            output::note(&progress.so_far());
        }
        progress.draw();
        progress
    }

    /// Takes an event over, whose command is that of a group.
    pub(super) fn event(&mut self, event: &Event, number: usize) {
        let people = match &event.payload {
            EventPayload::Membership(change) => change.participants.len(),
            // The account itself is nobody whom the file had to add.
            EventPayload::OwnJoin(join) => {
                let all = join.group.participants.as_ref().map_or(0, Vec::len);
                all.saturating_sub(1)
            }
            EventPayload::Notification(_)
            | EventPayload::JoinRequest(_)
            | EventPayload::Change(_) => 0,
        };
        let is_new = people > 0 && self.seen.insert(event.id);
        if let Some(part) = self.parts.get_mut(number).filter(|_| is_new) {
            part.done = part.people.min(part.done + people);
            self.draw();
        }
    }

    /// A group is finished.
    pub(super) fn over(&mut self, number: usize, how: &str) {
        let Some(part) = self.parts.get_mut(number) else {
            return;
        };
        (part.done, part.is_over) = (part.people, true);
        let title = part.title.clone();
        if self.bar.is_hidden() {
            output::note(&format!("{title}: {how} ({})", self.so_far()));
        }
        self.draw();
    }

    fn so_far(&self) -> String {
        let over = self.parts.iter().filter(|it| it.is_over).count();
        let people: usize = self.parts.iter().map(|it| it.people).sum();
        let done: usize = self.parts.iter().map(|it| it.done).sum();
        format!(
            "{over} of {}, {done} of {}{}",
            count(self.parts.len(), "group"),
            count(people, "people"),
            self.until
        )
    }

    fn draw(&self) {
        let mut waiting = self.parts.iter().filter(|it| !it.is_over);
        let named: Vec<_> = waiting
            .by_ref()
            .take(NAMED)
            .map(|it| it.title.as_str())
            .collect();
        let more = match waiting.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let waiting = if named.is_empty() {
            String::new()
        } else {
            format!("; waiting for {}{more}", named.join(", "))
        };
        self.bar.set_message(self.so_far() + &waiting);
        let steps = self.parts.iter();
        let steps = steps.map(|it| it.done + usize::from(it.is_over));
        self.bar.set_position(steps.sum::<usize>() as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The command that caused an event.
pub(super) fn cause(event: &Event) -> Option<&str> {
    let command = match &event.payload {
        EventPayload::Notification(it) => &it.command_id,
        EventPayload::Membership(it) => &it.command_id,
        EventPayload::JoinRequest(it) => &it.command_id,
        EventPayload::OwnJoin(it) => &it.command_id,
        EventPayload::Change(it) => &it.command_id,
    };
    command.as_ref().map(crate::contract::CommandId::as_str)
}
