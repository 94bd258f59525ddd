//! Finding the group that a `CreateGroup` may have made, when nobody saw the end of the request.

use std::collections::BTreeSet;
use std::time::Duration;

use super::LOOK_AGAIN;
use super::client::Ask;
use super::commands::Errand;
use super::wire::Seen;
use crate::clock::Clock;
use crate::contract::{CreateGroup, Role, Timestamp};
use crate::engines::EngineError;
use crate::outbound::Method;

/// WAHA's clock may be behind ours by so much.
const SKEW: Duration = Duration::from_secs(5);

/// The longest wait between two looks.
const LONGEST: Duration = Duration::from_secs(10);

/// What was found.
pub(super) enum Search {
    /// The one group that looks as it was wanted.
    Found(Box<Seen>),
    /// None, and the request has come to its end by now.
    Nothing,
    /// More than one.
    Unclear,
}

/// Looks for the group until it is there, or until the request must have come to its end: WAHA works
/// on when its caller is gone, so an early "nothing" is no answer.
pub(super) async fn created(
    errand: &Errand<'_>,
    wanted: &CreateGroup,
    since: Timestamp,
    settle: Duration,
    clock: &dyn Clock,
) -> Result<Search, EngineError> {
    let settled = since.0.checked_add(settle).unwrap_or(since.0);
    let mut wait = LOOK_AGAIN;
    loop {
        // Asked before looking: what happens in between shows in the next look.
        let is_settled = clock.now() >= settled;
        refresh(errand).await;
        let listed = errand.all_seen().await?;
        let mut fitting = listed
            .into_iter()
            .filter(|seen| fits(errand, wanted, since, seen));
        match (fitting.next(), fitting.next()) {
            (None, _) if is_settled => return Ok(Search::Nothing),
            (None, _) => {}
            (Some(seen), None) => return Ok(Search::Found(Box::new(seen))),
            (Some(_), Some(_)) => return Ok(Search::Unclear),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

/// Has WAHA ask WhatsApp anew: NOWEB lists from memory. Where that cannot be done, the list is what
/// there is.
async fn refresh(errand: &Errand<'_>) {
    let ask = Ask::change(Method::POST, "/refresh".to_owned(), None);
    errand.client.groups(errand.by, ask).await.ok();
}

/// Whether a group is ours, called as wanted, no older than the command, with nobody in it who was
/// not wanted.
fn fits(errand: &Errand<'_>, wanted: &CreateGroup, since: Timestamp, seen: &Seen) -> bool {
    let since = since.0.checked_sub(SKEW).unwrap_or(since.0);
    let people: BTreeSet<_> = wanted.participants.iter().map(|it| &it.id).collect();
    let everybody = seen.people.as_deref().unwrap_or_default();
    let mine = |person: &&super::wire::Person| errand.me.iter().any(|me| person.is(me));
    let own = everybody.iter().find(mine);
    let ours = own.is_some_and(|own| own.role != Role::Participant) || errand.me.is_empty();
    // WAHA tells seconds.
    let young = seen.created_at.is_none_or(|at| at.0 >= since);
    let only_wanted = everybody.iter().all(|person| {
        mine(&person) || people.iter().any(|id| person.is(id)) || person.is_private()
    });
    ours && young && only_wanted && seen.subject.as_ref() == Some(&wanted.name)
}
