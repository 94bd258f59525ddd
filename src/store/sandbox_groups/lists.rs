//! What is asked about all groups of an account: pages of them, how many there are, and who is in them.
//!
//! A page costs a page, however many groups there are. By id, the table of members has an account's groups in order.
//! By subject, those of an account in few groups are sorted; for an account in many, the groups of all accounts are
//! read in the order of their subjects until the page is full: soon, since many of them are the account's. To have
//! each account's groups in that order, a change of a subject would have to write a row for every member.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::rows::GroupRow;
use super::{SandboxGroup, SandboxGroups, state};
use crate::contract::{GroupId, ListGroups, ParticipantId, SortBy, SortOrder};
use crate::store::Error;
use crate::store::batch::TableRow as _;
use crate::store::db::{self, Value};

/// An account with more groups than this is in many.
const MANY: i64 = 500;

/// The phones of those who share a group with an account, itself included; each once.
macro_rules! around {
    () => {
        "SELECT DISTINCT theirs.account FROM sandbox_members AS theirs \
         WHERE theirs.account LIKE '%@c.us' AND (SELECT TRUE FROM sandbox_members AS mine \
         WHERE mine.account = $1 AND mine.group_id = theirs.group_id)"
    };
}

/// The query of `ListGroups` for an account (`$1`), `LIMIT $2 OFFSET $3`.
///
/// What is skipped is skipped in the index. Only the state of what is shown is read, and nothing sorts the states:
/// both databases return the rows of a single subquery in its order.
pub(in crate::store) fn page(asked: &ListGroups, is_in_many: bool) -> String {
    let direction = match asked.sort_order {
        SortOrder::Asc => "",
        SortOrder::Desc => " DESC",
    };
    let ids = match (asked.sort_by, is_in_many) {
        (SortBy::Id, _) => format!(
            "SELECT group_id AS id FROM sandbox_members WHERE account = $1 \
             ORDER BY group_id{direction}"
        ),
        // A cross join, so that SQLite begins with the account's groups.
        (SortBy::Subject, false) => format!(
            "SELECT theirs.id FROM sandbox_members AS mine CROSS JOIN sandbox_groups AS theirs \
             WHERE mine.account = $1 AND theirs.id = mine.group_id \
             ORDER BY theirs.subject{direction}, theirs.id{direction}"
        ),
        // A subquery for a value, which no planner turns into a join that would have to be sorted.
        (SortBy::Subject, true) => format!(
            "SELECT theirs.id FROM sandbox_groups AS theirs \
             WHERE (SELECT TRUE FROM sandbox_members AS mine \
             WHERE mine.account = $1 AND mine.group_id = theirs.id) \
             ORDER BY theirs.subject{direction}, theirs.id{direction}"
        ),
    };
    format!(
        "SELECT page.id, (SELECT state FROM sandbox_groups WHERE id = page.id) \
         FROM ({ids} LIMIT $2 OFFSET $3) AS page"
    )
}

impl SandboxGroups {
    /// Passes on the groups that an account is in, sorted and cut as asked, until `each` breaks. They are read one
    /// by one, as of one moment.
    ///
    /// # Errors
    /// When the store cannot be used or a group cannot be parsed.
    pub async fn each_of_account(
        &self,
        account: &ParticipantId,
        asked: &ListGroups,
        mut each: impl FnMut(GroupId, SandboxGroup) -> ControlFlow<()> + Send,
    ) -> Result<(), Error> {
        let is_in_many = asked.sort_by == SortBy::Subject && self.is_in_many(account).await?;
        let values = vec![
            Value::from(account.as_str()),
            Value::Int(asked.limit.map_or(i64::MAX, i64::from)),
            Value::Int(i64::from(asked.offset)),
        ];
        let mut parsed = Ok(());
        let sql = page(asked, is_in_many);
        let rows = self
            .pool
            .fetch_each("listing groups", sql, values, |row| match read(&row) {
                Ok((id, group)) => each(id, group),
                Err(error) => {
                    parsed = Err(error);
                    ControlFlow::Break(())
                }
            });
        rows.await?;
        parsed
    }

    /// As [`SandboxGroups::each_of_account`], all in memory.
    ///
    /// # Errors
    /// When the store cannot be used or a group cannot be parsed.
    pub async fn of_account(
        &self,
        account: &ParticipantId,
        asked: &ListGroups,
    ) -> Result<Vec<(GroupId, SandboxGroup)>, Error> {
        let mut all = Vec::new();
        let add = |id, group| {
            all.push((id, group));
            ControlFlow::Continue(())
        };
        self.each_of_account(account, asked, add).await?;
        Ok(all)
    }

    /// How many groups an account is in.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn count_of_account(&self, account: &ParticipantId) -> Result<u64, Error> {
        let sql = "SELECT COUNT(*) FROM sandbox_members WHERE account = $1";
        self.count(sql, account).await
    }

    /// Whether two people are in a group together.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn share_a_group(
        &self,
        one: &ParticipantId,
        other: &ParticipantId,
    ) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM sandbox_members AS theirs WHERE theirs.account = $1 \
                   AND (SELECT TRUE FROM sandbox_members AS mine \
                   WHERE mine.account = $2 AND mine.group_id = theirs.group_id) LIMIT 1";
        let values = vec![Value::from(other.as_str()), Value::from(one.as_str())];
        let found = self.pool.fetch("looking for a common group", sql, values);
        Ok(!found.await?.is_empty())
    }

    /// The phones of those who share a group with an account, and its own, in order; a part of them.
    ///
    /// # Errors
    /// When the store cannot be used or a group cannot be parsed.
    pub async fn phones_around(
        &self,
        account: &ParticipantId,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<ParticipantId>, Error> {
        if !self.is_in_many(account).await? {
            let phones = self.few_phones_around(account).await?;
            let [limit, offset] =
                [limit, offset].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
            return Ok(phones.into_iter().skip(offset).take(limit).collect());
        }
        let sql = concat!(around!(), " ORDER BY theirs.account LIMIT $2 OFFSET $3");
        let values = vec![
            Value::from(account.as_str()),
            Value::Int(i64::from(limit)),
            Value::Int(i64::from(offset)),
        ];
        let rows = self.pool.fetch("listing people", sql, values).await?;
        rows.iter()
            .map(|row| row.parse(0, "sandbox_members"))
            .collect()
    }

    /// How many [`SandboxGroups::phones_around`] lists in all.
    ///
    /// # Errors
    /// When the store cannot be used or a group cannot be parsed.
    pub async fn count_phones_around(&self, account: &ParticipantId) -> Result<u64, Error> {
        if self.is_in_many(account).await? {
            let sql = concat!("SELECT COUNT(*) FROM (", around!(), ") AS around");
            return self.count(sql, account).await;
        }
        let phones = self.few_phones_around(account).await?;
        Ok(u64::try_from(phones.len()).unwrap_or(u64::MAX))
    }

    /// The phones in the groups of an account that is in few, from the groups themselves: no table has the people
    /// of a group.
    async fn few_phones_around(
        &self,
        account: &ParticipantId,
    ) -> Result<BTreeSet<ParticipantId>, Error> {
        let mut phones = BTreeSet::from([account.clone()]);
        let add = |_, group: SandboxGroup| {
            phones.extend(group.members.into_keys());
            ControlFlow::Continue(())
        };
        self.each_of_account(account, &ListGroups::default(), add)
            .await?;
        phones.retain(ParticipantId::is_phone);
        Ok(phones)
    }

    async fn is_in_many(&self, account: &ParticipantId) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM sandbox_members WHERE account = $1 LIMIT 1 OFFSET $2";
        let values = vec![Value::from(account.as_str()), Value::Int(MANY)];
        let found = self.pool.fetch("looking for many groups", sql, values);
        Ok(!found.await?.is_empty())
    }

    async fn count(&self, sql: &'static str, account: &ParticipantId) -> Result<u64, Error> {
        let values = vec![Value::from(account.as_str())];
        let rows = self.pool.fetch("counting", sql, values).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

fn read(row: &db::Row) -> Result<(GroupId, SandboxGroup), Error> {
    let id = row.parse(0, GroupRow::TABLE)?;
    Ok((id, state::read(&row.get::<String>(1)?)?))
}
