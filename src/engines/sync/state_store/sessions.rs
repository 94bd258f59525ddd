//! What is stored of a session apart from its groups: whether they have been compared, and whether
//! snapshots show none of them.

use super::StateStore;
use crate::contract::SessionName;
use crate::engines::sync::{Confirmation, SessionState, confirm_missing_groups};
use crate::store::Error;
use crate::store::known_groups::KnownKey;

fn own(session: &SessionName) -> KnownKey {
    KnownKey {
        session: session.clone(),
        group: None,
    }
}

impl StateStore {
    /// Whether a session's groups have been compared before.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn has_compared(
        &self,
        session: &SessionName,
    ) -> Result<bool, Error> {
        self.read(session, None, |about: SessionState| about.compared)
            .await
    }

    /// Records that all groups of a session have been compared.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn mark_compared(
        &self,
        session: &SessionName,
    ) -> Result<(), Error> {
        self.update(own(session), |rows, key| {
            let mut about: SessionState = rows.get(key)?.unwrap_or_default();
            about.compared = true;
            rows.put(key, &about)
        })
        .await
    }

    /// Records a snapshot that shows none of a session's groups, or few; `known` says whether it
    /// should show any. Returns the decision, and whether this is the first such snapshot.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn record_missing_groups(
        &self,
        session: &SessionName,
        begun: i64,
        known: bool,
    ) -> Result<(Confirmation, bool), Error> {
        let lag = self.lag;
        let weighed = self.update(own(session), move |rows, key| {
            let mut about: SessionState = rows.get(key)?.unwrap_or_default();
            let weighed = confirm_missing_groups(&mut about.missing_groups, begun, known, lag);
            rows.put(key, &about)?;
            Ok(Some(weighed))
        });
        Ok(weighed
            .await?
            .unwrap_or((Confirmation::Recheck(begun), false)))
    }

    /// Records a snapshot that shows most of a session's groups.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn clear_missing_groups(
        &self,
        session: &SessionName,
    ) -> Result<(), Error> {
        self.update(own(session), |rows, key| {
            let mut about: SessionState = rows.get(key)?.unwrap_or_default();
            about.missing_groups = None;
            rows.put(key, &about)
        })
        .await
    }
}
