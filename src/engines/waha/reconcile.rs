//! Finding what nobody told: the groups that WAHA shows are compared with those last known.
//!
//! Done when a session becomes `WORKING` (so at the start, and after each outage), when the WebSocket
//! is connected anew, when an event said that something changed but not what, and now and then.

use std::sync::Arc;

use super::commands::Errand;
use super::known::{Claim, Report, Source};
use super::wire::Seen;
use super::{LOOK_AGAIN, Waha};
use crate::contract::{ErrorCode, GroupId, NotificationType, SessionName};
use crate::engines::EngineError;
use crate::observability::events;
use crate::store;
use crate::store::known_groups::KnownKey;
use crate::store::pending_events::Headers;

/// For how long one worker has the right to compare now and then.
const LEASE: std::time::Duration = std::time::Duration::from_secs(10);

/// Why a comparison was given up.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Waha {
    /// Compares when it is wished for, and every `reconcile.interval`; never ends.
    pub async fn reconcile(self: Arc<Self>) {
        let Some(interval) = self.settings.reconcile_interval else {
            loop {
                // Groups that have to be looked at are looked at all the same.
                let wishes = self.book.wishes().await;
                self.grant(wishes.into_iter().filter(|it| it.group.is_some()).collect())
                    .await;
            }
        };
        let mut due = tokio::time::interval(interval);
        // The first one is now, when no session is known yet; each is wished for as it appears.
        due.tick().await;
        loop {
            // Both lose nothing when the other one wins.
            tokio::select! {
                wishes = self.book.wishes() => self.grant(wishes.into_iter().collect()).await,
                _ = due.tick() => {
                    let ours = self.store.pending_events().lease("waha-reconcile", LEASE).await;
                    if ours.unwrap_or_default() {
                        let all = self.sessions.working().into_iter();
                        let all = all.map(|session| KnownKey { session, group: None });
                        self.grant(all.collect()).await;
                    }
                }
            }
        }
    }

    async fn grant(&self, wishes: Vec<KnownKey>) {
        for KnownKey { session, group } in wishes {
            let done = match &group {
                None => self.compare_all(&session).await,
                Some(group) => self.compare_one(&session, group).await,
            };
            match done {
                Ok(told) => events::reconciled(session.as_str(), told),
                Err(error) => events::not_reconciled(session.as_str(), &error),
            }
        }
        // WAHA is not asked again at once, whatever is wished for.
        tokio::time::sleep(LOOK_AGAIN).await;
    }

    /// Compares all groups of a session; how many had changed.
    async fn compare_all(&self, session: &SessionName) -> Result<usize, Failed> {
        let errand = self.errand(session, None).await?;
        let begun = self.book.now();
        let listed = errand.all_seen().await?;
        let mut changed = 0;
        for seen in &listed {
            changed += self.compare(&errand, seen.clone(), begun).await?;
        }
        for group in self.book.inside(session, begun).await? {
            if !listed.iter().any(|seen| seen.id == group) {
                changed += self.compare_missing(&errand, &group, begun).await?;
            }
        }
        if !self.book.has_looked(session).await? {
            self.book.looked(session).await?;
        }
        Ok(changed)
    }

    /// Compares one group.
    async fn compare_one(&self, session: &SessionName, group: &GroupId) -> Result<usize, Failed> {
        let errand = self.errand(session, None).await?;
        let begun = self.book.now();
        self.compare_missing(&errand, group, begun).await
    }

    /// A group that is not in the list: a list may be incomplete, so the group itself is asked for.
    async fn compare_missing(
        &self,
        errand: &Errand<'_>,
        group: &GroupId,
        begun: i64,
    ) -> Result<usize, Failed> {
        match errand.look(group).await {
            Ok(seen) => self.compare(errand, seen, begun).await,
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::NotAMember | ErrorCode::GroupNotFound
                ) =>
            {
                let left = Claim::Left(NotificationType::Leave);
                self.report(errand, group, left, begun).await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn compare(&self, errand: &Errand<'_>, seen: Seen, begun: i64) -> Result<usize, Failed> {
        let group = seen.id.clone();
        self.report(errand, &group, Claim::Compared(Box::new(seen)), begun)
            .await
    }

    async fn report(
        &self,
        errand: &Errand<'_>,
        group: &GroupId,
        claim: Claim,
        begun: i64,
    ) -> Result<usize, Failed> {
        let report = Report {
            source: Source::Comparison,
            at: begun,
            heard: begun,
            now: self.book.now(),
            me: errand.me.clone(),
            author: None,
            claims: vec![claim],
            trace: Headers::new(),
        };
        let session = errand.by.session;
        Ok(match self.book.hear(session, group, None, report).await? {
            super::book::Heard::Told(told) if told > 0 => {
                events::waha_events("comparison", "taken", told);
                1
            }
            _ => 0,
        })
    }
}
