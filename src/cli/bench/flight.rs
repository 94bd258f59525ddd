//! The requests that were sent and about which something is still to come, by number.
//!
//! Numbers count up, so the requests are a window that moves: what is settled leaves it at the front. A request that
//! is not settled leaves it after the timeout, so its size is bounded by rate and timeout.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// When it was due; in a closed loop, when it was sent.
    pub(super) due: Instant,
    /// Its place in the mix, where it is counted; none in the warm-up.
    pub(super) counted: Option<usize>,
    pub(super) awaits_confirm: bool,
    pub(super) awaits_answer: bool,
    pub(super) awaits_event: bool,
}

/// The window of requests.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// The number of the first request in the window.
    first: u64,
    sent: VecDeque<Sent>,
    unanswered: usize,
    events: usize,
}

impl Flight {
    /// The number of the first request about which something is still to come.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The request with a number, if it is in the window.
    pub(super) fn get(&self, number: u64) -> Option<Sent> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.sent.get(place).copied()
    }

    /// The number of the next request.
    pub(super) fn next(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    /// The number of requests without an answer.
    pub(super) const fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// The number of requests whose event is still to come.
    pub(super) const fn events(&self) -> usize {
        self.events
    }

    /// Adds the request with the number `next`.
    pub(super) fn add(&mut self, sent: Sent) {
        self.unanswered += usize::from(sent.awaits_answer);
        self.events += usize::from(sent.awaits_event);
        self.sent.push_back(sent);
    }

    /// Takes the confirm of a request; none if it was not awaited.
    pub(super) fn confirm(&mut self, number: u64) -> Option<Sent> {
        self.settle(number, |it| &mut it.awaits_confirm)
    }

    /// Takes the answer to a request; none if it was not awaited.
    pub(super) fn answer(&mut self, number: u64) -> Option<Sent> {
        let sent = self.settle(number, |it| &mut it.awaits_answer)?;
        self.unanswered -= 1;
        Some(sent)
    }

    /// Takes the first event of a request; none if it was not awaited.
    pub(super) fn event(&mut self, number: u64) -> Option<Sent> {
        let sent = self.settle(number, |it| &mut it.awaits_event)?;
        self.events -= 1;
        Some(sent)
    }

    /// Removes the requests that were due before this time, and returns those without an answer.
    pub(super) fn expire(&mut self, before: Instant) -> Vec<Sent> {
        let mut lost = Vec::new();
        while let Some(sent) = self.sent.pop_front_if(|it| it.due < before) {
            self.first += 1;
            self.events -= usize::from(sent.awaits_event);
            if sent.awaits_answer {
                self.unanswered -= 1;
                lost.push(sent);
            }
        }
        lost
    }

    /// Empties the window, and returns the requests without an answer.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Sent> + use<> {
        self.first = self.next();
        (self.unanswered, self.events) = (0, 0);
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter().filter(|it| it.awaits_answer)
    }

    fn settle(&mut self, number: u64, part: impl Fn(&mut Sent) -> &mut bool) -> Option<Sent> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(place)?;
        if !std::mem::replace(part(sent), false) {
            return None;
        }
        let settled = *sent;
        let is_over = |it: &mut Sent| !(it.awaits_confirm || it.awaits_answer || it.awaits_event);
        while self.sent.pop_front_if(is_over).is_some() {
            self.first += 1;
        }
        Some(settled)
    }
}
