//! Finds changes that no event reported, by comparing the groups that WAHA shows with the stored
//! state.
//!
//! Runs when a session becomes `WORKING` (so at the start, and after each outage), when the WebSocket
//! has reconnected, when an event did not say what changed, when a snapshot left something
//! unconfirmed, and periodically. A snapshot is evidence; `sync` decides what is believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::client::{ApiRequest, within};
use super::commands::Operation;
use super::error::{FailureCause, Intent};
use super::wire::{self};
use super::{READ_INTERVAL, Waha};
use crate::contract::{GroupId, SessionName};
use crate::engines::EngineError;
use crate::engines::sync::{Completeness, GroupSnapshot, Person, is_phone};
use crate::engines::sync::{Confirmation, Observation, Report, Source};
use crate::observability::events::{self, SnapshotDefect};
use crate::store;
use crate::store::known_groups::KnownKey;
use crate::store::pending_events::Headers;

/// How long one worker holds the right to the periodic comparison.
const LEASE: std::time::Duration = std::time::Duration::from_secs(10);

/// The maximum number of groups that are read one by one in a comparison of all.
const LOOKS: usize = 50;

/// The number of missing groups that are read if most of a session's groups are missing.
const SAMPLE: usize = 3;

/// The maximum number of members' private ids that are looked up for one snapshot.
const LOOKUPS: usize = 20;

/// Why a comparison was aborted.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// WAHA's answer about one group.
enum FetchedGroup {
    Found(Box<GroupSnapshot>),
    /// WAHA knows no such group, or returns nothing.
    Absent,
}

/// The result of a comparison of many groups.
#[derive(Default)]
struct Tally {
    changed: usize,
    /// The first group's failure; the other groups were compared.
    failed: Option<EngineError>,
}

impl Tally {
    /// Records the result of one group; its failure does not stop the others.
    fn note(&mut self, done: Result<bool, ReconcileError>) -> Result<(), store::Error> {
        match done {
            Ok(changed) => self.changed += usize::from(changed),
            Err(ReconcileError::Store(error)) => return Err(error),
            Err(ReconcileError::Engine(error)) => {
                events::snapshot_unreliable(SnapshotDefect::Unreadable);
                self.failed.get_or_insert(error);
            }
        }
        Ok(())
    }
}

impl Waha {
    /// Compares when a refresh is requested, and every `reconcile.interval`; never ends.
    pub async fn reconcile(self: Arc<Self>) {
        // Sessions whose last comparison failed: a failure is logged when it begins.
        let mut failing = BTreeSet::new();
        let Some(interval) = self.settings.reconcile_interval else {
            loop {
                // Single groups are refreshed even if the periodic comparison is disabled.
                let refreshes = self.state_store.next_refreshes().await;
                let refreshes = refreshes.into_iter().filter(|it| it.group.is_some());
                self.run_refreshes(refreshes.collect(), &mut failing).await;
            }
        };
        let mut due = tokio::time::interval(interval);
        // The first tick is immediate, when no session is known yet; a comparison is requested for
        // each session as it appears.
        due.tick().await;
        loop {
            // Either branch loses nothing if the other one wins.
            tokio::select! {
                refreshes = self.state_store.next_refreshes() => {
                    self.run_refreshes(refreshes.into_iter().collect(), &mut failing).await;
                }
                _ = due.tick() => {
                    let ours = self.store.leases().acquire("waha-reconcile", LEASE).await;
                    if ours.unwrap_or_default() {
                        let all = self.sessions.working().into_iter();
                        let all = all.map(|session| KnownKey { session, group: None });
                        self.run_refreshes(all.collect(), &mut failing).await;
                    }
                }
            }
        }
    }

    async fn run_refreshes(&self, keys: Vec<KnownKey>, failing: &mut BTreeSet<SessionName>) {
        for KnownKey { session, group } in keys {
            let done = match &group {
                None => self.compare_all(&session).await,
                Some(group) => self.compare_one(&session, group).await,
            };
            let failed = match done {
                Ok(tally) => {
                    events::reconciled(session.as_str(), tally.changed);
                    tally.failed.map(ReconcileError::Engine)
                }
                Err(error) => Some(error),
            };
            match failed {
                Some(error) if failing.insert(session.clone()) => {
                    events::not_reconciled(session.as_str(), &error);
                }
                None if group.is_none() => {
                    failing.remove(&session);
                }
                _ => {}
            }
        }
        // A pause before the next requests, however many refreshes wait.
        tokio::time::sleep(READ_INTERVAL).await;
    }

    /// Compares all groups of a session.
    async fn compare_all(&self, session: &SessionName) -> Result<Tally, ReconcileError> {
        let mut operation = self.operation(session, None).await?;
        let begun = self.state_store.now();
        let mut listed = fetch_list(&operation).await?;
        if let Some(snapshot) = listed
            .iter()
            .find(|snapshot| is_size_old(&operation, snapshot))
        {
            // Once for all groups: NOWEB requests all of them from WhatsApp.
            ask_whatsapp(&operation, &snapshot.id).await;
            listed = fetch_list(&operation).await?;
        }
        let people = listed
            .iter_mut()
            .filter_map(|snapshot| snapshot.people.as_mut());
        let people = people.collect();
        operation
            .phone_directory
            .resolve_all(operation.client, operation.caller, people)
            .await;
        learn_own_lid(
            &mut operation,
            listed.iter().filter_map(|it| it.people.as_ref()),
        )
        .await;
        let mut tally = Tally::default();
        let mut stubs = 0;
        for snapshot in &listed {
            let mut snapshot = snapshot.clone();
            if snapshot.is_stub() && stubs < LOOKS {
                stubs += 1;
                if let Ok(FetchedGroup::Found(group)) = fetch(&operation, &snapshot.id).await {
                    snapshot = *group;
                }
            }
            tally.note(self.compare(&operation, snapshot, begun).await)?;
        }
        let known = self.state_store.groups_inside(session, begun).await?;
        let shown: BTreeSet<_> = listed.iter().map(|snapshot| &snapshot.id).collect();
        let all = known.len();
        let missing: Vec<_> = known.into_iter().filter(|it| !shown.contains(it)).collect();
        self.compare_missing(&operation, &missing, all, begun, &mut tally)
            .await?;
        // If groups are known and none is listed, that has been recorded already.
        if (all == 0 || !listed.is_empty()) && !self.state_store.has_compared(session).await? {
            self.mark_compared(session, listed.is_empty(), begun)
                .await?;
        }
        Ok(tally)
    }

    /// Groups that are not in the list. A list may be incomplete, so the groups are read one by one;
    /// and if most are missing at once, several lists must agree before leaving one is believed.
    async fn compare_missing(
        &self,
        operation: &Operation<'_>,
        missing: &[GroupId],
        known: usize,
        begun: i64,
        tally: &mut Tally,
    ) -> Result<(), ReconcileError> {
        let session = operation.caller.session;
        let is_most = are_most(missing.len(), known);
        let mut gone = Vec::new();
        let mut is_believed = !is_most;
        for (n, group) in missing.iter().take(LOOKS).enumerate() {
            if n == SAMPLE && !is_believed {
                is_believed = self.is_all_missing(session, begun).await?;
                if !is_believed {
                    return Ok(());
                }
            }
            match fetch(operation, group).await {
                Ok(FetchedGroup::Found(snapshot)) => {
                    // The list is incomplete.
                    is_believed = true;
                    tally.note(self.compare(operation, *snapshot, begun).await)?;
                }
                Ok(FetchedGroup::Absent) => gone.push(group),
                Err(error) => tally.note(Err(error.into()))?,
            }
        }
        if !is_believed && !gone.is_empty() && !self.is_all_missing(session, begun).await? {
            return Ok(());
        }
        if !is_most {
            self.state_store.clear_missing_groups(session).await?;
        }
        for group in gone {
            let reported = self
                .report(operation, group, Observation::Missing, begun)
                .await;
            tally.note(reported)?;
        }
        Ok(())
    }

    /// Whether to believe that all or most of a session's groups are gone at once.
    async fn is_all_missing(
        &self,
        session: &SessionName,
        begun: i64,
    ) -> Result<bool, ReconcileError> {
        let weighed = self
            .state_store
            .record_missing_groups(session, begun, true)
            .await?;
        let (Confirmation::Recheck(due), is_first) = weighed else {
            return Ok(true);
        };
        events::snapshot_unreliable(SnapshotDefect::NoGroups);
        if is_first {
            events::groups_missing(session.as_str());
        }
        self.request_refresh_at(session, due);
        Ok(false)
    }

    /// The session's groups have been compared: a group found later is new. An empty list is believed
    /// only when several agree.
    async fn mark_compared(
        &self,
        session: &SessionName,
        is_empty: bool,
        begun: i64,
    ) -> Result<(), ReconcileError> {
        if is_empty
            && let (Confirmation::Recheck(due), _) = self
                .state_store
                .record_missing_groups(session, begun, false)
                .await?
        {
            self.request_refresh_at(session, due);
            return Ok(());
        }
        self.state_store.clear_missing_groups(session).await?;
        Ok(self.state_store.mark_compared(session).await?)
    }

    fn request_refresh_at(&self, session: &SessionName, due: i64) {
        let key = KnownKey {
            session: session.clone(),
            group: None,
        };
        self.state_store.request_refresh_at(key, due);
    }

    /// Compares one group. Only the comparison of all groups finds out that a group is gone.
    async fn compare_one(
        &self,
        session: &SessionName,
        group: &GroupId,
    ) -> Result<Tally, ReconcileError> {
        let mut operation = self.operation(session, None).await?;
        let begun = self.state_store.now();
        let mut tally = Tally::default();
        let mut shown = fetch(&operation, group).await;
        if let Ok(FetchedGroup::Found(snapshot)) = &shown
            && is_size_old(&operation, snapshot)
        {
            ask_whatsapp(&operation, group).await;
            shown = fetch(&operation, group).await;
        }
        match shown {
            Ok(FetchedGroup::Found(snapshot)) => {
                learn_own_lid(&mut operation, snapshot.people.iter()).await;
                tally.note(self.compare(&operation, *snapshot, begun).await)?;
            }
            Ok(FetchedGroup::Absent) => self.request_refresh_at(session, begun),
            Err(error) => tally.note(Err(error.into()))?,
        }
        Ok(tally)
    }

    /// Compares a snapshot with the state; true if something had changed.
    async fn compare(
        &self,
        operation: &Operation<'_>,
        snapshot: GroupSnapshot,
        begun: i64,
    ) -> Result<bool, ReconcileError> {
        if snapshot.extent() != Completeness::Complete {
            events::snapshot_unreliable(SnapshotDefect::Incomplete);
        }
        let people = snapshot.people.as_deref().unwrap_or_default();
        if people.iter().any(Person::is_private) {
            let unpaired = self.state_store.members_without_lid(
                operation.caller.session,
                &snapshot.id,
                people.to_vec(),
            );
            for phone in unpaired.await?.iter().take(LOOKUPS) {
                operation
                    .phone_directory
                    .lid(operation.client, operation.caller, phone)
                    .await;
            }
        }
        let group = snapshot.id.clone();
        self.report(
            operation,
            &group,
            Observation::Snapshot(Box::new(snapshot)),
            begun,
        )
        .await
    }

    async fn report(
        &self,
        operation: &Operation<'_>,
        group: &GroupId,
        observation: Observation,
        begun: i64,
    ) -> Result<bool, ReconcileError> {
        let report = Report {
            source: Source::Comparison,
            at: begun,
            observed_at: begun,
            now: self.state_store.now(),
            me: operation.me.clone(),
            author: None,
            observations: vec![observation],
            trace: Headers::new(),
        };
        let session = operation.caller.session;
        Ok(
            match self.state_store.apply(session, group, None, report).await? {
                crate::engines::sync::state_store::Applied::Events(count) if count > 0 => {
                    events::waha_events("comparison", "taken", count);
                    true
                }
                _ => false,
            },
        )
    }
}

/// Whether this many of the known groups cannot have gone one by one.
const fn are_most(missing: usize, known: usize) -> bool {
    missing > 0 && (missing == known || (missing >= 5 && missing > known / 2))
}

/// All groups that WAHA lists, stubs included.
async fn fetch_list(operation: &Operation<'_>) -> Result<Vec<GroupSnapshot>, EngineError> {
    let asked = operation
        .client
        .groups(operation.caller, ApiRequest::get(String::new()));
    let body = asked.await?;
    wire::groups(body.json()).ok_or_else(|| {
        FailureCause::Unreadable("no list of groups")
            .into_engine_error(Intent::Read, &operation.caller.server.name)
    })
}

/// Whether the number of members is the only thing that contradicts the list. NOWEB's store keeps the
/// number while members come and go, so its list looks like an incomplete one. A group that the
/// account has left stays in the store, and WhatsApp does not return it any more.
fn is_size_old(operation: &Operation<'_>, snapshot: &GroupSnapshot) -> bool {
    !snapshot.is_stub()
        && snapshot.unread == 0
        && snapshot.extent() != Completeness::Complete
        && !operation.excludes_own_account(snapshot)
}

/// Makes WAHA request a group's members from WhatsApp. The answer has no number to check it by; but
/// NOWEB's store takes list and number from it, and returns them from then on.
async fn ask_whatsapp(operation: &Operation<'_>, group: &GroupId) {
    let ask = ApiRequest::get(within(group, "/participants"));
    if operation
        .client
        .groups(operation.caller, ask)
        .await
        .is_err()
    {
        // The comparison continues with what WAHA returns by itself.
        events::snapshot_unreliable(SnapshotDefect::Unreadable);
    }
}

/// Reads one group.
async fn fetch(operation: &Operation<'_>, group: &GroupId) -> Result<FetchedGroup, EngineError> {
    let asked = operation
        .client
        .groups(operation.caller, ApiRequest::get(within(group, "")));
    let body = match asked.await {
        Ok(body) => body,
        Err(failure) if matches!(failure.cause.whatsapp(), Some(401 | 403 | 404)) => {
            return Ok(FetchedGroup::Absent);
        }
        Err(failure) => return Err(failure.into_engine_error()),
    };
    let Some(mut snapshot) = wire::group(body.json()).filter(|snapshot| snapshot.id == *group)
    else {
        return Ok(FetchedGroup::Absent);
    };
    if let Some(people) = &mut snapshot.people {
        let resolved =
            operation
                .phone_directory
                .resolve(operation.client, operation.caller, group, people);
        resolved.await;
    }
    Ok(FetchedGroup::Found(Box::new(snapshot)))
}

/// Looks up the own account's private id if members are listed by theirs.
async fn learn_own_lid(
    operation: &mut Operation<'_>,
    people: impl Iterator<Item = &Vec<Person>> + Send,
) {
    let [phone] = &operation.me[..] else {
        return;
    };
    let is_private = |person: &Person| person.is_private() || person.lid.is_some();
    if !is_phone(phone) || !people.into_iter().flatten().any(is_private) {
        return;
    }
    let lid = operation
        .phone_directory
        .lid(operation.client, operation.caller, phone)
        .await;
    operation.me.extend(lid);
}
