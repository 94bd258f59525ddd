//! Receives WAHA's events: checks signature and age, parses them and stores the result, once.
//!
//! `ops` passes the bodies of posts and turns the outcome into a status; `socket` passes messages of
//! the WebSocket, which are trusted because we opened the connection.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use secrecy::ExposeSecret as _;
use sha2::Sha512;

use super::Waha;
use super::health::StatusSource;
use super::notices::{self, Notice, NoticeContent};
use crate::contract::{SessionName, Timestamp};
use crate::engines::sync::state_store::Applied;
use crate::engines::sync::{Observation, Report, Source};
use crate::engines::sync::{Person, is_phone};
use crate::observability::events::{self, IntakeOutcome};
use crate::store;
use crate::store::known_groups::KnownKey;
use crate::store::pending_events::Headers;

/// The maximum number of phones that are looked up before a notification is applied.
const LOOKUPS: usize = 20;

/// The time limit for all of these lookups together.
const ASKING: Duration = Duration::from_secs(2);

/// How an event was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeSource {
    /// A webhook.
    Webhook,
    /// The WebSocket.
    Socket,
}

impl NoticeSource {
    const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Socket => "socket",
        }
    }
}

/// Why an event was rejected.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The signature is missing or does not match the body.
    #[error(
        "the signature does not match the body; check that engine.waha.intake.hmac_key is WAHA's key"
    )]
    InvalidSignature,
    /// It is older, or further in the future, than allowed.
    #[error("the event's timestamp is outside engine.waha.intake.window; it may be a replay")]
    OutsideWindow,
    /// It is not an event of WAHA.
    #[error("this is not a WAHA event: {0}")]
    Malformed(&'static str),
    /// The store could not take it; WAHA has to send it again.
    #[error("the event could not be stored; send it again")]
    NotStored(#[source] store::Error),
}

impl Waha {
    /// The size limit of a post in bytes; none if the intake is disabled.
    #[must_use]
    pub fn intake_limit(&self) -> Option<usize> {
        self.settings
            .intake
            .as_ref()
            .map(|intake| intake.body_limit)
    }

    /// Handles a webhook; once this returns, the event is in the store.
    ///
    /// `signature` is the header `X-Webhook-Hmac`: the HMAC-SHA512 of the raw body, in hex.
    ///
    /// # Errors
    /// Why it was rejected.
    pub async fn take_webhook(
        &self,
        body: &[u8],
        signature: Option<&str>,
    ) -> Result<(), IntakeError> {
        let Some(intake) = &self.settings.intake else {
            return Err(IntakeError::InvalidSignature);
        };
        let taken = async {
            if !is_signed(intake.hmac_key.expose_secret(), body, signature) {
                return Err(IntakeError::InvalidSignature);
            }
            let notice = notices::read(body).map_err(|why| IntakeError::Malformed(why.0))?;
            // The header's timestamp is not signed; the body's is.
            if !is_within(notice.sent, self.state_store.now(), intake.window) {
                return Err(IntakeError::OutsideWindow);
            }
            self.take(notice).await
        };
        let taken = taken.await;
        count(NoticeSource::Webhook, &taken);
        taken.map(drop)
    }

    /// Handles a message of the WebSocket.
    pub(super) async fn take_message(&self, body: &[u8]) {
        let taken = match notices::read(body) {
            Err(why) => Err(IntakeError::Malformed(why.0)),
            Ok(notice) => {
                // WAHA does not send it again, so it waits for the store.
                let notice = std::sync::Arc::new(notice);
                let take = || self.take_kept(&notice);
                self.store
                    .through_outages(take)
                    .await
                    .map_err(IntakeError::NotStored)
            }
        };
        count(NoticeSource::Socket, &taken);
    }

    async fn take(&self, notice: Notice) -> Result<IntakeOutcome, IntakeError> {
        self.take_kept(&notice)
            .await
            .map_err(IntakeError::NotStored)
    }

    async fn take_kept(&self, notice: &Notice) -> Result<IntakeOutcome, store::Error> {
        let Notice {
            id,
            session,
            me,
            content,
            ..
        } = notice;
        let Some(server) = self.client.server(session) else {
            return Ok(IntakeOutcome::Ignored);
        };
        // Either source may lack the private id, without which the account is not recognised.
        let mut me = me.clone();
        for id in self.sessions.me(session) {
            if !me.contains(&id) {
                me.push(id);
            }
        }
        me.sort_by_key(|id| !is_phone(id));
        match content {
            NoticeContent::Ignored => Ok(IntakeOutcome::Ignored),
            NoticeContent::Status(status, at) => {
                let source = StatusSource::Event(*at);
                if self
                    .sessions
                    .record_status(session, &server.name, status, me, source)
                {
                    self.request_refresh(session.clone());
                }
                Ok(IntakeOutcome::Stored)
            }
            NoticeContent::Refresh(group) => {
                self.state_store.request_refresh(KnownKey {
                    session: session.clone(),
                    group: Some(group.clone()),
                });
                Ok(IntakeOutcome::Stored)
            }
            NoticeContent::Group(group, observations, moment) => {
                self.learn_phones(session, observations, moment.author.as_ref())
                    .await;
                let now = self.state_store.now();
                let report = Notice::report(id, me, observations.clone(), moment, now);
                let key = Some(format!("waha/{id}"));
                let applied = self.state_store.apply(session, group, key, report).await?;
                Ok(match applied {
                    Applied::Events(0) => IntakeOutcome::AlreadyKnown,
                    Applied::Events(_) | Applied::Held => IntakeOutcome::Stored,
                    Applied::Outdated => IntakeOutcome::Outdated,
                    Applied::Duplicate => IntakeOutcome::Duplicate,
                })
            }
        }
    }

    /// Looks up the phones of people who are named by a private id only, so that events name them by
    /// phone. If WAHA does not answer in time, the private id stays.
    async fn learn_phones(
        &self,
        session: &SessionName,
        observations: &[Observation],
        author: Option<&Person>,
    ) {
        let Ok(by) = self.client.caller(session, None) else {
            return;
        };
        let people = observations
            .iter()
            .flat_map(Observation::people)
            .chain(author);
        let private = people.filter(|it| it.is_private()).take(LOOKUPS);
        let ask = async {
            for person in private {
                self.phone_directory
                    .phone(&self.client, by, &person.id)
                    .await;
            }
        };
        // A late answer is useless: WAHA waits for its 200.
        drop(tokio::time::timeout(ASKING, ask).await);
    }

    /// Requests another read of groups with held notifications, and publishes those that were held for
    /// too long.
    pub(super) async fn recheck_held(&self) {
        for key in self.state_store.groups_with_held() {
            let Some(group) = &key.group else {
                continue;
            };
            let now = self.state_store.now();
            let report = Report {
                source: Source::Comparison,
                at: now,
                observed_at: now,
                now,
                me: self.sessions.me(&key.session),
                author: None,
                observations: Vec::new(),
                trace: Headers::new(),
            };
            match self
                .state_store
                .apply(&key.session, group, None, report)
                .await
            {
                Ok(Applied::Events(0)) => self.state_store.request_refresh(key),
                Ok(_) => {}
                Err(error) => events::store_refused(&error),
            }
        }
    }

    /// Deletes the ids of events that are too old to be accepted again; never ends.
    pub async fn forget(self: std::sync::Arc<Self>) {
        let window = self.settings.intake.as_ref().map(|intake| intake.window);
        let kept = window.unwrap_or(Duration::from_hours(1)) * 2 + Duration::from_mins(10);
        loop {
            tokio::time::sleep(Duration::from_mins(1)).await;
            let Ok(before) = self.clock.now().checked_sub(kept) else {
                continue;
            };
            if let Err(error) = self.state_store.forget(Timestamp(before)).await
                && !error.is_outage()
            {
                events::store_refused(&error);
            }
        }
    }
}

fn count(from: NoticeSource, taken: &Result<IntakeOutcome, IntakeError>) {
    let outcome = match taken {
        Ok(outcome) => outcome.name(),
        Err(IntakeError::InvalidSignature) => "forged",
        Err(IntakeError::OutsideWindow) => "replayed",
        Err(IntakeError::Malformed(_)) => "malformed",
        Err(IntakeError::NotStored(_)) => "unstored",
    };
    events::waha_event(from.name(), outcome);
}

/// Whether a signature matches the body; compared in constant time.
fn is_signed(key: &str, body: &[u8], signature: Option<&str>) -> bool {
    let Some(signature) = signature.and_then(unhex) else {
        return false;
    };
    let Ok(mut mac) = Hmac::<Sha512>::new_from_slice(key.as_bytes()) else {
        return false;
    };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let bytes = text.trim().as_bytes();
    if bytes.len() != 128 {
        return None;
    }
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    bytes.chunks(2).map(pair).collect()
}

fn is_within(sent: i64, now: i64, window: Duration) -> bool {
    let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    sent.abs_diff(now) <= window.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of WAHA's documentation.
    const KEY: &str = "my-secret-key";
    const BODY: &[u8] = br#"{"event":"message","session":"default","engine":"WEBJS"}"#;
    const SIGNATURE: &str = "208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8097c\
                             462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89";

    #[test]
    fn the_signature_of_wahas_documentation_is_the_bodys() {
        assert!(is_signed(KEY, BODY, Some(SIGNATURE)));
        assert!(is_signed(KEY, BODY, Some(&SIGNATURE.to_uppercase())));
        assert!(!is_signed("another", BODY, Some(SIGNATURE)));
        assert!(!is_signed(KEY, b"{}", Some(SIGNATURE)));
        assert!(!is_signed(KEY, BODY, None));
        for wrong in [
            "",
            "20",
            SIGNATURE.get(..126).unwrap(),
            &"zz".repeat(64),
            &"é".repeat(64),
        ] {
            assert!(!is_signed(KEY, BODY, Some(wrong)), "{wrong}");
        }
    }

    #[test]
    fn what_is_too_old_or_too_far_ahead_is_outside_the_window() {
        let minute = Duration::from_mins(1);
        assert!(is_within(1_000_000, 1_060_000, minute));
        assert!(!is_within(1_000_000, 1_060_001, minute));
        assert!(is_within(1_060_000, 1_000_000, minute));
        assert!(!is_within(1_060_001, 1_000_000, minute));
    }
}
