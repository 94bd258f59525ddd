//! What is known of a session beside its groups: whether they have been looked at, and whether looks show
//! none of them.

use super::Book;
use crate::contract::SessionName;
use crate::engines::waha::known::{KnownSession, Verdict, weigh_all};
use crate::store::Error;
use crate::store::known_groups::KnownKey;

fn own(session: &SessionName) -> KnownKey {
    KnownKey {
        session: session.clone(),
        group: None,
    }
}

impl Book {
    /// Whether a session's groups have been looked at before.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(in crate::engines::waha) async fn has_looked(
        &self,
        session: &SessionName,
    ) -> Result<bool, Error> {
        self.read(session, None, |about: KnownSession| about.looked)
            .await
    }

    /// Writes down that all groups of a session have been looked at.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn looked(
        &self,
        session: &SessionName,
    ) -> Result<(), Error> {
        self.change(own(session), |rows, key| {
            let mut about: KnownSession = rows.get(key)?.unwrap_or_default();
            about.looked = true;
            rows.put(key, &about)
        })
        .await
    }

    /// Writes down that a look shows none of a session's groups, or few; `known` says whether there are
    /// groups that it should show. Whether to believe it, and whether this is the first such look.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn all_missing(
        &self,
        session: &SessionName,
        begun: i64,
        known: bool,
    ) -> Result<(Verdict, bool), Error> {
        let lag = self.lag;
        let weighed = self.change(own(session), move |rows, key| {
            let mut about: KnownSession = rows.get(key)?.unwrap_or_default();
            let weighed = weigh_all(&mut about.all_missing, begun, known, lag);
            rows.put(key, &about)?;
            Ok(Some(weighed))
        });
        Ok(weighed.await?.unwrap_or((Verdict::Wait(begun), false)))
    }

    /// Writes down that a look shows most of a session's groups.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn not_missing(
        &self,
        session: &SessionName,
    ) -> Result<(), Error> {
        self.change(own(session), |rows, key| {
            let mut about: KnownSession = rows.get(key)?.unwrap_or_default();
            about.all_missing = None;
            rows.put(key, &about)
        })
        .await
    }
}
