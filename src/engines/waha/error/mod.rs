//! WAHA's failures: from an answer (or none) to a cause, and from each cause, in one table, to an
//! error code, a disposition and a message.
//!
//! WAHA answers almost every failure with 500, and WhatsApp's own code has to be extracted from the
//! body: NOWEB puts it in `exception.data`, GOWS in the text of `exception.details` or
//! `exception.message`. No other module reads messages to find out what happened.

use std::time::Duration;

use serde_json::Value;

use crate::contract::ErrorCode;
use crate::engines::EngineError;
use crate::outbound::{Answer, Failure};

pub(super) use quoting::quoted;

mod quoting;

/// The cause of a failure.
#[derive(Debug)]
pub(super) enum FailureCause {
    /// 401, or 403 by WAHA itself: the key is missing or wrong.
    InvalidKey,
    /// 404, or 422 by newer servers: there is no session with this name.
    NoSession,
    /// 422: the session is not `WORKING`.
    SessionNotWorking(String),
    /// 422 or 501: not implemented by this engine. Or 404, `Cannot POST …`: a WAHA that is older than
    /// the request, or another server at this address (see [`super::Waha::run`]).
    NotImplemented,
    /// 400, with the validator's message.
    Invalid(String),
    /// 429 by the server or a proxy in front of it.
    Throttled(Option<Duration>),
    /// A refusal of WhatsApp, by its code.
    WhatsApp(WhatsAppRefusal),
    /// A text under a 2xx in which WEBJS reports a failure.
    RefusalText(String),
    /// A status without details: a proxy's page, a 404 for the base URL, a 5xx of a proxy.
    Status(u16),
    /// 500: an exception in WAHA, with its message. Exceptions about its connection are temporary,
    /// others last.
    Exception { words: String, lasts: bool },
    /// A 2xx with an unusable body: truncated, too large, not JSON, or not the expected content.
    Unreadable(&'static str),
    /// No answer, and the request was not sent.
    NotSent(Failure),
    /// No answer, and the request was sent, or may have been.
    NoAnswer(Failure),
}

/// WhatsApp's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WhatsAppRefusal {
    pub(super) code: u16,
    pub(super) words: String,
    /// For how long, in the two cases in which WhatsApp says so.
    pub(super) after: Option<Duration>,
}

/// The purpose of a request; a change without an answer may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    Change,
}

impl FailureCause {
    /// The cause that an answer other than 2xx shows.
    #[expect(
        clippy::match_same_arms,
        reason = "a table, in the order of the statuses"
    )]
    pub(super) fn from_answer(answer: &Answer) -> Self {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let message = words(&body);
        let lower = message.to_lowercase();
        match answer.status {
            401 | 403 => Self::InvalidKey,
            429 => Self::Throttled(answer.retry_after),
            400 => Self::Invalid(message),
            // First, because the quoted path may contain any word.
            404 if lower.starts_with("cannot ") => Self::NotImplemented,
            404 if lower.contains("session") => Self::NoSession,
            404 if lower.contains("group") => Self::WhatsApp(WhatsAppRefusal::new(404, message)),
            422 if body.get("expected").is_some() => {
                let status = body.get("status").and_then(Value::as_str);
                Self::SessionNotWorking(status.unwrap_or("not WORKING").to_owned())
            }
            422 if lower.contains("session status") => {
                Self::SessionNotWorking("not WORKING".to_owned())
            }
            422 if lower.contains("session") && lower.contains("does not exist") => Self::NoSession,
            422 if lower.contains("support only 'default' session") => Self::NoSession,
            422 if lower.contains("not implemented") || lower.contains("not available") => {
                Self::NotImplemented
            }
            422 => Self::Invalid(message),
            501 => Self::NotImplemented,
            status @ 500..=599 => WhatsAppRefusal::extract(&body)
                // 408 is NOWEB's own: WhatsApp has not answered it.
                .filter(|refusal| refusal.code != 408)
                .map_or_else(|| Self::failure(status, &body), Self::WhatsApp),
            status => Self::Status(status),
        }
    }

    /// A 5xx without a WhatsApp code.
    fn failure(status: u16, body: &Value) -> Self {
        let words = exception(body);
        if status != 500 || words.is_empty() {
            return Self::Status(status);
        }
        let lower = words.to_lowercase();
        let lasts = !PASSING.iter().any(|sign| lower.contains(sign));
        Self::Exception { words, lasts }
    }

    /// The cause if there is no answer.
    pub(super) fn from_failure(failure: Failure) -> Self {
        if failure.was_sent() {
            Self::NoAnswer(failure)
        } else {
            Self::NotSent(failure)
        }
    }

    /// WhatsApp's code, if WhatsApp refused.
    pub(super) const fn whatsapp(&self) -> Option<u16> {
        match self {
            Self::WhatsApp(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether the group is missing only in WAHA's own list: NOWEB does not ask WhatsApp for a single
    /// group.
    pub(super) fn is_of_a_list(&self) -> bool {
        match self {
            Self::WhatsApp(refusal) => names_a_missing_group(&refusal.words),
            _ => false,
        }
    }

    /// **The table**: what each cause means for the command. `server` is the server's name in the
    /// configuration.
    pub(super) fn into_engine_error(self, intent: Intent, server: &str) -> EngineError {
        match self {
            Self::InvalidKey => unavailable(format!(
                "WAHA refuses our key; set engine.waha's api_key to the key of the server {server}"
            )),
            Self::NoSession => refused(
                ErrorCode::SessionNotFound,
                format!("the WAHA server {server} has no session of this name; create it there"),
            ),
            Self::SessionNotWorking(status) => EngineError::NotReady {
                message: format!(
                    "the session is {status} in WAHA, not WORKING; start it there"
                ),
                after: None,
            },
            Self::NotImplemented => refused(
                ErrorCode::NotSupported,
                "WAHA's engine for this session does not support this command; GOWS, NOWEB and WEBJS differ"
                    .to_owned(),
            ),
            Self::Invalid(words) => refused(
                ErrorCode::EngineRejected,
                format!("WAHA rejects the request as invalid: {}", quoted(&words)),
            ),
            Self::Throttled(after) => EngineError::RateLimited {
                message: "WAHA, or a proxy in front of it, limits the request rate (429)".to_owned(),
                after,
            },
            Self::WhatsApp(refusal) => refusal.into_engine_error(),
            Self::RefusalText(words) => refusal_in_words(words),
            // Mostly sent before the request reached WAHA; an unknown outcome is not claimed.
            Self::Status(503) => {
                unavailable(format!("the WAHA server {server} is unavailable (503)"))
            }
            Self::Exception { words, lasts: true } => EngineError::Failing {
                message: format!(
                    "the WAHA server {server} failed: {}; if this continues, check WAHA's log, then restart or update it",
                    quoted(&words)
                ),
                is_open: intent == Intent::Change,
            },
            Self::Exception {
                words,
                lasts: false,
            } => open(
                intent,
                format!("the WAHA server {server} failed: {}", quoted(&words)),
                None,
            ),
            Self::Status(status @ 500..) => open(
                intent,
                format!("the WAHA server {server} failed without a reason ({status})"),
                None,
            ),
            Self::Status(status) => unavailable(format!(
                "the server {server} answers {status}, which WAHA never does; check engine.waha's url"
            )),
            Self::Unreadable(what) => open(
                intent,
                format!("the answer of the WAHA server {server} cannot be read: {what}"),
                None,
            ),
            Self::NotSent(failure) => EngineError::Unavailable {
                message: format!("the WAHA server {server} was not reached: {failure}"),
                source: Some(Box::new(failure)),
            },
            Self::NoAnswer(failure) => open(
                intent,
                format!("the WAHA server {server} did not answer: {failure}"),
                Some(failure),
            ),
        }
    }
}

impl WhatsAppRefusal {
    fn new(code: u16, words: String) -> Self {
        Self {
            code,
            words,
            after: None,
        }
    }

    /// Extracts WhatsApp's code from WAHA's 500.
    fn extract(body: &Value) -> Option<Self> {
        let exception = body.get("exception")?;
        let words = words(body);
        let details = exception.get("details").and_then(Value::as_str);
        let data = exception.get("data");
        let inner = |name: &str| data.and_then(|data| data.get(name)).and_then(Value::as_u64);
        let number = data.and_then(Value::as_u64).or_else(|| inner("code"));
        let number = number.and_then(|code| u16::try_from(code).ok());
        let said = format!("{} {words}", details.unwrap_or_default()).to_lowercase();
        let code = number
            .filter(|code| (300..600).contains(code))
            .or_else(|| code_after(&said, "status "))
            .or_else(|| code_after(&said, "error code "))
            .or_else(|| code_by_name(&said))?;
        let after = ["backoff", "expire", "retryAfter"]
            .iter()
            .find_map(|name| inner(name));
        Some(Self {
            code,
            words: details.map_or(words, str::to_owned),
            after: after.map(Duration::from_secs),
        })
    }

    /// WhatsApp's codes (whatsmeow, Baileys and whatsapp-rust use the same).
    fn into_engine_error(self) -> EngineError {
        let Self { code, words, after } = self;
        let rejected =
            |why: &str| refused(ErrorCode::EngineRejected, format!("{why} ({code} {words})"));
        match code {
            401 | 403 | 405 => refused(
                ErrorCode::NotAllowed,
                format!("WhatsApp forbids this; the session's account has to be an admin ({code})"),
            ),
            404 => refused(
                ErrorCode::GroupNotFound,
                "the session's account knows no such group; ListGroups returns the groups it is in"
                    .to_owned(),
            ),
            402 | 463 | 475 => EngineError::Restricted {
                message: format!("WhatsApp has restricted the session's account ({code})"),
                after,
            },
            429 => EngineError::RateLimited {
                message: format!(
                    "WhatsApp limits the session's request rate ({})",
                    code_and_text(code, &words)
                ),
                after,
            },
            // An answer with an error: WhatsApp has not done it.
            409 | 500..=599 => unavailable(format!(
                "WhatsApp could not carry out the request now ({})",
                code_and_text(code, &words)
            )),
            410 => rejected("the group or link no longer exists"),
            419 => rejected("the group is full"),
            423 => rejected("the group is locked"),
            400 | 406 => rejected(
                "WhatsApp does not accept it: a wrong number, a text that is too long, or a picture",
            ),
            _ => rejected("WhatsApp refused"),
        }
    }
}

/// Without an answer a change may have happened; a read is simply repeated.
fn open(intent: Intent, message: String, failure: Option<Failure>) -> EngineError {
    match intent {
        Intent::Change => EngineError::NoAnswer { message },
        Intent::Read => EngineError::Unavailable {
            message,
            source: failure.map(|failure| Box::new(failure) as _),
        },
    }
}

fn refused(code: ErrorCode, message: String) -> EngineError {
    EngineError::Refused { code, message }
}

fn unavailable(message: String) -> EngineError {
    EngineError::Unavailable {
        message,
        source: None,
    }
}

/// WEBJS's `AddParticipantsError: You have no admin rights …`, `CreateGroupError: …`.
fn refusal_in_words(words: String) -> EngineError {
    let lower = words.to_lowercase();
    if lower.contains("admin rights") || lower.contains("not-authorized") {
        return WhatsAppRefusal::new(403, words).into_engine_error();
    }
    if lower.contains("not a member") || lower.contains("not in the group") {
        return refused(
            ErrorCode::NotAMember,
            "the session's account is not in this group any more; an admin can add it again"
                .to_owned(),
        );
    }
    refused(
        ErrorCode::EngineRejected,
        format!("WhatsApp Web refused: {}", quoted(&words)),
    )
}

/// Texts of a 500 about WAHA's connection to WhatsApp, or about its start: these are temporary.
const PASSING: &[&str] = &[
    "connection closed",
    "connection terminated",
    "connection lost",
    "connection was lost",
    "connection failure",
    "not connected",
    "timed out",
    "timeout",
    "timedout",
    "econnre",
    "unavailable",
    "session closed",
    "target closed",
    "context was destroyed",
    "navigation",
    "starting",
    "not ready",
    "deadline exceeded",
];

/// WhatsApp's code, and its text if there is any.
fn code_and_text(code: u16, words: &str) -> String {
    let words = quoted(words);
    format!("{code} {words}").trim_end().to_owned()
}

/// The message of WAHA's own exception, and its kind.
fn exception(body: &Value) -> String {
    let words = words(body);
    let kind = body.get("exception").and_then(|inner| inner.get("name"));
    match kind.and_then(Value::as_str) {
        Some(kind) if kind != "Error" && kind != words => format!("{kind}: {words}"),
        _ => words,
    }
}

/// An error's message, wherever the body has it.
fn words(body: &Value) -> String {
    let exception = body.get("exception");
    let inner = |name: &str| exception.and_then(|inner| inner.get(name));
    let message = inner("message")
        .or_else(|| body.get("message"))
        .or_else(|| body.get("error"))
        .or_else(|| inner("name"));
    match message {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(all)) => {
            let texts: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            texts.join("; ")
        }
        _ => String::new(),
    }
}

/// `info query returned status 403: forbidden`.
fn code_after(said: &str, mark: &str) -> Option<u16> {
    let (_, rest) = said.split_once(mark)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|code| (300..600).contains(code))
}

/// WhatsApp's names for its codes, and the texts that engines use instead: NOWEB's for a group that it
/// does not know, and whatsmeow's if it knows what a code means for the request.
fn code_by_name(said: &str) -> Option<u16> {
    const NAMES: &[(&str, u16)] = &[
        ("rate-overlimit", 429),
        ("account_reachout_restricted", 463),
        ("not-authorized", 401),
        ("forbidden", 403),
        ("item-not-found", 404),
        ("not-allowed", 405),
        ("not-acceptable", 406),
        ("bad-request", 400),
        ("resource-limit", 419),
        ("service-unavailable", 503),
        ("internal-server-error", 500),
        ("that group does not exist", 404),
        ("not participating in that group", 403),
        ("have the permission to get the group's invite link", 401),
        ("group invite link is not valid", 406),
        ("group invite link has been revoked", 410),
    ];
    let named = NAMES.iter().find(|(name, _)| said.contains(name));
    named
        .map(|(_, code)| *code)
        .or_else(|| names_a_missing_group(said).then_some(404))
}

/// NOWEB's text for a group that is not in its list.
fn names_a_missing_group(said: &str) -> bool {
    let said = said.to_lowercase();
    said.contains("group with id") && said.contains("not found")
}

#[cfg(test)]
mod tests;
