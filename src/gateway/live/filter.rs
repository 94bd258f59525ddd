//! Which events a listener wants, and which it may see.

use crate::contract::EventName;
use crate::gateway::access::Pass;

use super::ALL;
use super::hub::Kept;

/// What one listener gets to see.
#[derive(Debug)]
pub(super) struct Filter {
    session: String,
    /// Names, or beginnings of names followed by `*`; empty: all.
    events: Vec<String>,
    pass: Pass,
}

impl Filter {
    pub(super) fn new(session: String, events: Vec<String>, pass: Pass) -> Self {
        // WAHA's other name for it.
        let events = events.into_iter().map(|name| match name.as_str() {
            "group.leave" => EventName::GroupLeft.as_str().to_owned(),
            _ => name,
        });
        Self {
            session,
            events: events.collect(),
            pass,
        }
    }

    /// Whether each name that is asked for can come at all.
    ///
    /// # Errors
    /// With one that cannot.
    pub(super) fn is_meaningful(&self) -> Result<(), &str> {
        let known = |pattern: &str| EventName::ALL.iter().any(|it| fits(pattern, it.as_str()));
        let unknown = self.events.iter().find(|pattern| !known(pattern));
        unknown.map_or(Ok(()), |pattern| Err(pattern))
    }

    pub(super) fn lets_through(&self, event: &Kept) -> bool {
        let asked = self.session == ALL || self.session == event.session;
        let named = self.events.is_empty() || self.events.iter().any(|it| fits(it, &event.name));
        asked && named && self.pass.sees(&event.session)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    }
}
