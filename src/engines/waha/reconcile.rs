//! Finding what nobody told: the groups that WAHA shows are compared with those last known.
//!
//! Done when a session becomes `WORKING` (so at the start, and after each outage), when the WebSocket
//! is connected anew, when an event said that something changed but not what, when a look left a doubt,
//! and now and then. What a look shows is evidence; `known` decides what is believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::client::{Ask, within};
use super::commands::Errand;
use super::error::{Cause, Intent};
use super::known::{Claim, Report, Source, Verdict};
use super::wire::{self, Extent, Person, Seen, is_phone};
use super::{LOOK_AGAIN, Waha};
use crate::contract::{GroupId, SessionName};
use crate::engines::EngineError;
use crate::observability::events::{self, Doubtful};
use crate::store;
use crate::store::known_groups::KnownKey;
use crate::store::pending_events::Headers;

/// For how long one worker has the right to compare now and then.
const LEASE: std::time::Duration = std::time::Duration::from_secs(10);

/// So many groups are looked at one by one in a comparison of all, at most.
const LOOKS: usize = 50;

/// So many of the missing groups are looked at when most of a session's groups are missing.
const SAMPLE: usize = 3;

/// So many members' private ids are asked for in one look at a group, at most.
const LOOKUPS: usize = 20;

/// Why a comparison was given up.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What WAHA answers about one group.
enum Shown {
    Group(Box<Seen>),
    /// WAHA knows no such group, or says nothing.
    Nothing,
}

/// What a comparison of many groups came to.
#[derive(Default)]
struct Tally {
    changed: usize,
    /// The first group's fault; the others went on.
    failed: Option<EngineError>,
}

impl Tally {
    /// Notes what became of one group; its fault is nobody else's.
    fn note(&mut self, done: Result<bool, Failed>) -> Result<(), store::Error> {
        match done {
            Ok(changed) => self.changed += usize::from(changed),
            Err(Failed::Store(error)) => return Err(error),
            Err(Failed::Engine(error)) => {
                events::doubtful_look(Doubtful::Failed);
                self.failed.get_or_insert(error);
            }
        }
        Ok(())
    }
}

impl Waha {
    /// Compares when it is wished for, and every `reconcile.interval`; never ends.
    pub async fn reconcile(self: Arc<Self>) {
        // Sessions whose last comparison failed: that is logged when it begins.
        let mut failing = BTreeSet::new();
        let Some(interval) = self.settings.reconcile_interval else {
            loop {
                // Groups that have to be looked at are looked at all the same.
                let wishes = self.book.wishes().await;
                let wishes = wishes.into_iter().filter(|it| it.group.is_some());
                self.grant(wishes.collect(), &mut failing).await;
            }
        };
        let mut due = tokio::time::interval(interval);
        // The first one is now, when no session is known yet; each is wished for as it appears.
        due.tick().await;
        loop {
            // Both lose nothing when the other one wins.
            tokio::select! {
                wishes = self.book.wishes() => {
                    self.grant(wishes.into_iter().collect(), &mut failing).await;
                }
                _ = due.tick() => {
                    let ours = self.store.pending_events().lease("waha-reconcile", LEASE).await;
                    if ours.unwrap_or_default() {
                        let all = self.sessions.working().into_iter();
                        let all = all.map(|session| KnownKey { session, group: None });
                        self.grant(all.collect(), &mut failing).await;
                    }
                }
            }
        }
    }

    async fn grant(&self, wishes: Vec<KnownKey>, failing: &mut BTreeSet<SessionName>) {
        for KnownKey { session, group } in wishes {
            let done = match &group {
                None => self.compare_all(&session).await,
                Some(group) => self.compare_one(&session, group).await,
            };
            let failed = match done {
                Ok(tally) => {
                    events::reconciled(session.as_str(), tally.changed);
                    tally.failed.map(Failed::Engine)
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
        // WAHA is not asked again at once, whatever is wished for.
        tokio::time::sleep(LOOK_AGAIN).await;
    }

    /// Compares all groups of a session.
    async fn compare_all(&self, session: &SessionName) -> Result<Tally, Failed> {
        let mut errand = self.errand(session, None).await?;
        let begun = self.book.now();
        let mut listed = list(&errand).await?;
        if let Some(seen) = listed.iter().find(|seen| is_size_old(&errand, seen)) {
            // Once for all groups: NOWEB asks WhatsApp for all of them.
            ask_whatsapp(&errand, &seen.id).await;
            listed = list(&errand).await?;
        }
        let people = listed.iter_mut().filter_map(|seen| seen.people.as_mut());
        let people = people.collect();
        errand
            .lids
            .resolve_all(errand.client, errand.by, people)
            .await;
        learn_own_lid(
            &mut errand,
            listed.iter().filter_map(|it| it.people.as_ref()),
        )
        .await;
        let mut tally = Tally::default();
        let mut stubs = 0;
        for seen in &listed {
            let mut seen = seen.clone();
            if seen.is_stub() && stubs < LOOKS {
                stubs += 1;
                if let Ok(Shown::Group(group)) = show(&errand, &seen.id).await {
                    seen = *group;
                }
            }
            tally.note(self.compare(&errand, seen, begun).await)?;
        }
        let known = self.book.inside(session, begun).await?;
        let is_listed = |group: &GroupId| listed.iter().any(|seen| seen.id == *group);
        let all = known.len();
        let missing: Vec<_> = known.into_iter().filter(|it| !is_listed(it)).collect();
        self.compare_missing(&errand, &missing, all, begun, &mut tally)
            .await?;
        // Where there are known groups and none is listed, that has been weighed.
        if (all == 0 || !listed.is_empty()) && !self.book.has_looked(session).await? {
            self.look_first(session, listed.is_empty(), begun).await?;
        }
        Ok(tally)
    }

    /// Groups that are not in the list. A list may be incomplete, so the groups themselves are asked
    /// for; and where most are missing at once, several looks must agree before any is gone.
    async fn compare_missing(
        &self,
        errand: &Errand<'_>,
        missing: &[GroupId],
        known: usize,
        begun: i64,
        tally: &mut Tally,
    ) -> Result<(), Failed> {
        let session = errand.by.session;
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
            match show(errand, group).await {
                Ok(Shown::Group(seen)) => {
                    // It is the list that is incomplete.
                    is_believed = true;
                    tally.note(self.compare(errand, *seen, begun).await)?;
                }
                Ok(Shown::Nothing) => gone.push(group),
                Err(error) => tally.note(Err(error.into()))?,
            }
        }
        if !is_believed && !gone.is_empty() && !self.is_all_missing(session, begun).await? {
            return Ok(());
        }
        if !is_most {
            self.book.not_missing(session).await?;
        }
        for group in gone {
            let told = self.report(errand, group, Claim::Missing, begun).await;
            tally.note(told)?;
        }
        Ok(())
    }

    /// Whether to believe that a session's groups are gone, all or most at once.
    async fn is_all_missing(&self, session: &SessionName, begun: i64) -> Result<bool, Failed> {
        let weighed = self.book.all_missing(session, begun, true).await?;
        let (Verdict::Wait(due), is_first) = weighed else {
            return Ok(true);
        };
        events::doubtful_look(Doubtful::NoGroups);
        if is_first {
            events::groups_missing(session.as_str());
        }
        self.look_at(session, due);
        Ok(false)
    }

    /// The session's groups have been looked at: a new one is news from now on. That there is none is
    /// believed only when several looks agree.
    async fn look_first(
        &self,
        session: &SessionName,
        is_empty: bool,
        begun: i64,
    ) -> Result<(), Failed> {
        if is_empty
            && let (Verdict::Wait(due), _) = self.book.all_missing(session, begun, false).await?
        {
            self.look_at(session, due);
            return Ok(());
        }
        self.book.not_missing(session).await?;
        Ok(self.book.looked(session).await?)
    }

    fn look_at(&self, session: &SessionName, due: i64) {
        let key = KnownKey {
            session: session.clone(),
            group: None,
        };
        self.book.wish_at(key, due);
    }

    /// Compares one group. That it is not there is for the comparison of all to find.
    async fn compare_one(&self, session: &SessionName, group: &GroupId) -> Result<Tally, Failed> {
        let mut errand = self.errand(session, None).await?;
        let begun = self.book.now();
        let mut tally = Tally::default();
        let mut shown = show(&errand, group).await;
        if let Ok(Shown::Group(seen)) = &shown
            && is_size_old(&errand, seen)
        {
            ask_whatsapp(&errand, group).await;
            shown = show(&errand, group).await;
        }
        match shown {
            Ok(Shown::Group(seen)) => {
                learn_own_lid(&mut errand, seen.people.iter()).await;
                tally.note(self.compare(&errand, *seen, begun).await)?;
            }
            Ok(Shown::Nothing) => self.look_at(session, begun),
            Err(error) => tally.note(Err(error.into()))?,
        }
        Ok(tally)
    }

    /// Compares a group that is shown; whether it had changed.
    async fn compare(&self, errand: &Errand<'_>, seen: Seen, begun: i64) -> Result<bool, Failed> {
        if seen.extent() != Extent::Whole {
            events::doubtful_look(Doubtful::Incomplete);
        }
        let people = seen.people.as_deref().unwrap_or_default();
        if people.iter().any(Person::is_private) {
            let unpaired = self
                .book
                .unpaired(errand.by.session, &seen.id, people.to_vec());
            for phone in unpaired.await?.iter().take(LOOKUPS) {
                errand.lids.lid(errand.client, errand.by, phone).await;
            }
        }
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
    ) -> Result<bool, Failed> {
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
                true
            }
            _ => false,
        })
    }
}

/// Whether so many missing groups, of those that are known, cannot have gone one by one.
const fn are_most(missing: usize, known: usize) -> bool {
    missing > 0 && (missing == known || (missing >= 5 && missing > known / 2))
}

/// All groups that WAHA lists, stubs included.
async fn list(errand: &Errand<'_>) -> Result<Vec<Seen>, EngineError> {
    let asked = errand.client.groups(errand.by, Ask::get(String::new()));
    let body = asked.await?;
    wire::groups(body.json()).ok_or_else(|| {
        Cause::Unreadable("no list of groups").judge(Intent::Read, &errand.by.server.name)
    })
}

/// Whether a group's number of people is all that disagrees with its list. NOWEB's store keeps the number
/// while people come and go, so its list cannot be told from one that lacks people. A group that the
/// account is out of stays in the store, and WhatsApp does not show it any more.
fn is_size_old(errand: &Errand<'_>, seen: &Seen) -> bool {
    !seen.is_stub() && seen.unread == 0 && seen.extent() != Extent::Whole && !errand.is_out_of(seen)
}

/// Has WAHA ask WhatsApp for a group's people. What it answers has no number to be checked by; but
/// NOWEB's store takes both from it, and shows them from then on.
async fn ask_whatsapp(errand: &Errand<'_>, group: &GroupId) {
    let ask = Ask::get(within(group, "/participants"));
    if errand.client.groups(errand.by, ask).await.is_err() {
        // The look goes on with what WAHA shows by itself.
        events::doubtful_look(Doubtful::Failed);
    }
}

/// Asks for one group.
async fn show(errand: &Errand<'_>, group: &GroupId) -> Result<Shown, EngineError> {
    let asked = errand.client.groups(errand.by, Ask::get(within(group, "")));
    let body = match asked.await {
        Ok(body) => body,
        Err(trouble) if matches!(trouble.cause.whatsapp(), Some(401 | 403 | 404)) => {
            return Ok(Shown::Nothing);
        }
        Err(trouble) => return Err(trouble.judge()),
    };
    let Some(mut seen) = wire::group(body.json()).filter(|seen| seen.id == *group) else {
        return Ok(Shown::Nothing);
    };
    if let Some(people) = &mut seen.people {
        let resolved = errand.lids.resolve(errand.client, errand.by, group, people);
        resolved.await;
    }
    Ok(Shown::Group(Box::new(seen)))
}

/// Learns the own account's private id where people are shown by theirs.
async fn learn_own_lid(errand: &mut Errand<'_>, people: impl Iterator<Item = &Vec<Person>> + Send) {
    let [phone] = &errand.me[..] else {
        return;
    };
    let is_private = |person: &Person| person.is_private() || person.lid.is_some();
    if !is_phone(phone) || !people.into_iter().flatten().any(is_private) {
        return;
    }
    let lid = errand.lids.lid(errand.client, errand.by, phone).await;
    errand.me.extend(lid);
}
