//! Which events a listener requested and is authorised for.

use crate::contract::EventName;
use crate::gateway::access::Grant;

/// All sessions that the key covers.
pub(super) const ALL: &str = "*";

/// The filter of one listener.
#[derive(Debug)]
pub(super) struct Filter {
    session: String,
    /// Event names, or prefixes followed by `*`; empty means all.
    events: Vec<String>,
    grant: Grant,
}

impl Filter {
    pub(super) fn new(session: String, events: Vec<String>, grant: Grant) -> Self {
        // WAHA's alias.
        let events = events.into_iter().map(|name| match name.as_str() {
            "group.leave" => EventName::GroupLeft.as_str().to_owned(),
            _ => name,
        });
        Self {
            session,
            events: events.collect(),
            grant,
        }
    }

    /// Checks that each pattern matches an event that exists.
    ///
    /// # Errors
    /// With the first pattern that matches none.
    pub(super) fn check_names(&self) -> Result<(), &str> {
        let known = |pattern: &str| EventName::ALL.iter().any(|it| fits(pattern, it.as_str()));
        let unknown = self.events.iter().find(|pattern| !known(pattern));
        unknown.map_or(Ok(()), |pattern| Err(pattern))
    }

    /// Whether the listener gets an event of this session and name.
    pub(super) fn matches(&self, session: &str, name: &str) -> bool {
        let asked = self.session == ALL || self.session == session;
        let named = self.events.is_empty() || self.events.iter().any(|it| fits(it, name));
        asked && named && self.grant.covers(session)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    }
}
