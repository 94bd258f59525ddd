//! `[engine]`: the engine that executes commands, and its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::contract::{ParticipantId, SessionName};

use super::Waha;
use super::read::{Section, duration, flag, from_words, parsed, share, text};

/// `[engine]`: the engine that executes commands.
#[derive(Debug, Clone)]
pub enum Engine {
    /// The embedded model of WhatsApp's rules.
    Sandbox(Sandbox),
    /// WAHA servers over HTTP.
    Waha(Waha),
}

/// `[engine.sandbox]`.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// The accounts: session name → phone number.
    pub sessions: BTreeMap<SessionName, ParticipantId>,
    /// Participants who are not admins may add others in new groups (WhatsApp's default).
    pub members_can_add: bool,
    /// Faults to inject, by session.
    pub faults: BTreeMap<SessionName, Fault>,
}

/// The faults to inject for one session of the sandbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault {
    /// The minimum duration of every command.
    pub delay: Duration,
    /// The share of commands that fail with the engine unavailable, 0 to 1.
    pub error_rate: f64,
    /// The session is offline.
    pub outage: bool,
    /// WhatsApp has restricted the session's account.
    pub restricted: bool,
    /// WhatsApp rate-limits every command, with this wait.
    pub rate_limit: Option<Duration>,
    /// The process aborts at this point of every command that changes something.
    pub crash: Option<CrashPoint>,
}

/// A point of a command at which the process can abort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CrashPoint {
    /// After the ledger has recorded `started`, before the effect.
    #[default]
    BeforeEffect,
    /// After the effect, before the ledger has recorded it.
    AfterEffect,
}

from_words!(
    CrashPoint,
    "must be before-effect or after-effect",
    "before-effect" => BeforeEffect,
    "after-effect" => AfterEffect
);

/// `engine.kind`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Sandbox,
    Waha,
}

from_words!(Kind, "must be sandbox or waha", "sandbox" => Sandbox, "waha" => Waha);

impl Default for Engine {
    fn default() -> Self {
        Self::Sandbox(Sandbox::default())
    }
}

impl Engine {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let kind = section.required("kind", parsed);
        let sandbox = Sandbox::read(section.section("sandbox"));
        let waha = Waha::read(section.section("waha"));
        if kind == Kind::Waha && waha.servers.is_empty() {
            section.problem(
                "waha",
                "must configure a server: url, or [engine.waha.servers.<name>]",
            );
        }
        section.finish();
        match kind {
            Kind::Sandbox => Self::Sandbox(sandbox),
            Kind::Waha => Self::Waha(waha),
        }
    }
}

impl Sandbox {
    fn read(mut section: Section<'_>) -> Self {
        let members_can_add = section.required("members_can_add", flag);
        let sessions = section.section("sessions").each(
            |_, mut session| {
                let phone = session.optional("phone", phone);
                session.finish();
                phone
            },
            Some("phone"),
        );
        let faults = section
            .section("faults")
            .each(|_, fault| Fault::read(fault), None);
        let sessions = sessions
            .into_iter()
            .filter_map(|(name, phone)| phone.map(|phone| (name, phone)))
            .collect();
        let sandbox = Self {
            sessions,
            members_can_add,
            faults,
        };
        if let Some(twice) = sandbox.shared_phone() {
            section.problem(
                "sessions",
                format!("{twice} has the phone number of another session"),
            );
        }
        for name in sandbox
            .faults
            .keys()
            .filter(|name| !sandbox.sessions.contains_key(name))
        {
            section.problem(
                "faults",
                format!("{name} is not a session of engine.sandbox.sessions"),
            );
        }
        section.finish();
        sandbox
    }

    fn shared_phone(&self) -> Option<&SessionName> {
        let mut seen = BTreeSet::new();
        self.sessions
            .iter()
            .find(|(_, phone)| !seen.insert(*phone))
            .map(|(name, _)| name)
    }
}

impl Fault {
    fn read(mut section: Section<'_>) -> Self {
        let times = Duration::ZERO..=Duration::from_hours(1);
        let fault = Self {
            delay: section
                .optional("delay", duration(times.clone()))
                .unwrap_or_default(),
            error_rate: section.optional("error_rate", share).unwrap_or_default(),
            outage: section.optional("outage", flag).unwrap_or_default(),
            restricted: section.optional("restricted", flag).unwrap_or_default(),
            rate_limit: section.optional("rate_limit", duration(times)),
            crash: section.optional("crash", parsed),
        };
        section.finish();
        fault
    }
}

fn phone(value: &figment::value::Value) -> Result<ParticipantId, String> {
    format!("{}@c.us", text(value)?)
        .parse()
        .map_err(|_| "must be a phone number of 5 to 20 digits, without +, in quotes".to_owned())
}
