//! Lists of an account's groups and people: right whatever the page, and read without reading everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::groups::{ME, OTHER, PRINT, group_id, state};
use super::{Database, both, key, postgres, record, sqlite};
use crate::contract::{
    CommandType, GroupId, ListGroups, ParticipantId, SortBy, SortOrder, Timestamp,
};
use crate::store::Store;
use crate::store::db::Value;
use crate::store::sandbox_groups::{SandboxGroups, World, page};

/// More than an account in few groups has.
pub(super) const GROUPS: usize = 700;
const STRANGER: &str = "491700000003@c.us";

/// A group: its subject and its people.
pub(super) type Made = BTreeMap<GroupId, (String, Vec<String>)>;

/// I am in most of the groups, the other in a few, a stranger in one without me; some have the same subject.
pub(super) fn made(groups: usize, chance: &mut StdRng) -> Made {
    let group = |n: usize| {
        let subject = chance.random_range(0..groups / 3).to_string();
        let mut people = vec![format!("4918{:08}@c.us", n % 50), format!("{n:09}@lid")];
        if !n.is_multiple_of(10) {
            people.push(ME.to_owned());
        }
        if n % 100 < 7 {
            people.push(OTHER.to_owned());
        }
        if n == 0 {
            people.push(STRANGER.to_owned());
        }
        (group_id(n), (subject, people))
    };
    (0..groups).map(group).collect()
}

pub(super) async fn fill(groups: &SandboxGroups, made: &Made) {
    let ids = made.keys().cloned().collect();
    let made = made.clone();
    let step = move |world: &mut World<'_>| {
        for (id, (subject, people)) in &made {
            let people: Vec<_> = people.iter().map(String::as_str).collect();
            world.insert(id, state(subject, &people));
            let at = Timestamp(jiff::Timestamp::UNIX_EPOCH);
            world.changed(id, CommandType::CreateGroup, at);
        }
        Ok(record("made"))
    };
    groups.change(key("made"), PRINT, ids, step).await.unwrap();
}

fn orders() -> impl Iterator<Item = ListGroups> {
    let sorts = [SortBy::Id, SortBy::Subject].into_iter();
    sorts.flat_map(|sort_by| {
        [SortOrder::Asc, SortOrder::Desc].map(|sort_order| ListGroups {
            sort_by,
            sort_order,
            ..ListGroups::default()
        })
    })
}

/// The groups that an account is in, in an order, by the rules alone.
fn expected(made: &Made, who: &str, order: &ListGroups) -> Vec<GroupId> {
    let mine = made
        .iter()
        .filter(|(_, (_, people))| people.iter().any(|it| it == who));
    let mut mine: Vec<_> = mine
        .map(|(id, (subject, _))| (subject.clone(), id.clone()))
        .collect();
    match order.sort_by {
        SortBy::Id => mine.sort_by(|one, other| one.1.cmp(&other.1)),
        SortBy::Subject => mine.sort(),
    }
    if order.sort_order == SortOrder::Desc {
        mine.reverse();
    }
    mine.into_iter().map(|(_, id)| id).collect()
}

async fn listed(groups: &SandboxGroups, who: &str, asked: &ListGroups) -> Vec<GroupId> {
    let all = groups
        .of_account(&who.parse().unwrap(), asked)
        .await
        .unwrap();
    all.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_page_of_any_place_and_size_is_that_part_of_the_whole_list() {
    let mut chance = StdRng::seed_from_u64(18);
    for database in both() {
        let groups = database.open().await.sandbox_groups();
        let made = made(GROUPS, &mut chance);
        fill(&groups, &made).await;
        for (who, order) in [ME, OTHER, STRANGER, "4917000@c.us"]
            .into_iter()
            .flat_map(|who| orders().map(move |order| (who, order)))
        {
            let whole = expected(&made, who, &order);
            assert_eq!(listed(&groups, who, &order).await, whole, "{order:?}");
            for _ in 0..10 {
                let (limit, offset) = (
                    chance.random_range(1..=whole.len() + 2),
                    chance.random_range(0..=whole.len() + 2),
                );
                let asked = ListGroups {
                    limit: Some(limit.try_into().unwrap()),
                    offset: offset.try_into().unwrap(),
                    ..order.clone()
                };
                let part: Vec<_> = whole.iter().skip(offset).take(limit).cloned().collect();
                assert_eq!(listed(&groups, who, &asked).await, part, "{asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_account_has_the_people_and_the_number_of_its_groups() {
    let mut chance = StdRng::seed_from_u64(18);
    for database in both() {
        let groups = database.open().await.sandbox_groups();
        let made = made(GROUPS, &mut chance);
        fill(&groups, &made).await;
        for who in [ME, OTHER, STRANGER, "4917000@c.us"] {
            let account: ParticipantId = who.parse().unwrap();
            let theirs = made
                .values()
                .filter(|(_, people)| people.iter().any(|it| it == who));
            let mut around: BTreeSet<_> = theirs.clone().flat_map(|(_, people)| people).collect();
            let own = who.to_owned();
            around.insert(&own);
            let phones: Vec<_> = around.iter().filter(|it| it.ends_with("@c.us")).collect();

            let count = groups.count_of_account(&account).await.unwrap();
            assert_eq!(count, u64::try_from(theirs.count()).unwrap());
            let count = groups.count_phones_around(&account).await.unwrap();
            assert_eq!(count, u64::try_from(phones.len()).unwrap());
            for (limit, offset) in [(1_000, 0), (7, 0), (7, 3), (7, 1_000)] {
                let part = groups.phones_around(&account, limit, offset).await.unwrap();
                let part: Vec<_> = part.iter().map(ParticipantId::as_str).collect();
                let [limit, offset] = [limit, offset].map(|it| usize::try_from(it).unwrap());
                let phones: Vec<_> = phones
                    .iter()
                    .skip(offset)
                    .take(limit)
                    .map(|it| it.as_str())
                    .collect();
                assert_eq!(part, phones, "{who}");
            }
            for other in [ME, OTHER, STRANGER, "491800000001@c.us"] {
                let together = made.values().any(|(_, people)| {
                    [who, other]
                        .iter()
                        .all(|it| people.iter().any(|its| its == it))
                });
                let their = other.parse().unwrap();
                let found = groups.share_a_group(&account, &their);
                assert_eq!(found.await.unwrap(), together, "{who} {other}");
            }
        }
    }
}

/// What a database does for a page, a line for each step.
async fn plan(database: &Database, store: &Store, asked: &ListGroups, is_in_many: bool) -> String {
    let (explain, column) = if database.is_postgres() {
        ("EXPLAIN", 0)
    } else {
        ("EXPLAIN QUERY PLAN", 3)
    };
    let sql = format!("{explain} {}", page(asked, is_in_many));
    let values = vec![Value::from(ME), Value::Int(10), Value::Int(5)];
    let rows = store.pool.fetch("explaining", sql, values).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(column).unwrap()).collect();
    lines.join("\n")
}

#[tokio::test]
async fn sqlite_takes_a_page_from_an_index_and_sorts_nothing() {
    let database = sqlite();
    let store = database.open().await;
    for order in orders() {
        let by_subject = order.sort_by == SortBy::Subject;
        let plan = plan(&database, &store, &order, by_subject).await;
        let index = if by_subject {
            "SCAN theirs USING COVERING INDEX sandbox_groups_by_subject"
        } else {
            "SEARCH sandbox_members USING COVERING INDEX sqlite_autoindex_sandbox_members_1 (account=?)"
        };
        assert!(plan.contains(index), "{order:?}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{order:?}\n{plan}");
    }
    // Of few groups, all are sorted: those of the account, and nothing but their subjects.
    let order = orders().last().unwrap();
    let plan = plan(&database, &store, &order, false).await;
    let index = "SEARCH mine USING COVERING INDEX sqlite_autoindex_sandbox_members_1 (account=?)";
    assert!(plan.contains(index), "{plan}");
    assert!(!plan.contains("SCAN theirs"), "{plan}");
}

#[tokio::test]
async fn postgres_takes_a_page_from_an_index_and_sorts_nothing() {
    let database = postgres();
    let store = database.open().await;
    let made = made(3_000, &mut StdRng::seed_from_u64(18));
    fill(&store.sandbox_groups(), &made).await;
    store.batcher.raw("ANALYZE").await.unwrap();
    for order in orders() {
        let by_subject = order.sort_by == SortBy::Subject;
        let plan = plan(&database, &store, &order, by_subject).await;
        let index = if by_subject {
            "sandbox_groups_by_subject"
        } else {
            "sandbox_members_pkey"
        };
        let lines = plan.lines().map(str::trim_start);
        let steps: Vec<_> = lines.filter(|line| !line.starts_with("SubPlan")).collect();
        let limit = steps.iter().position(|step| step.starts_with("->  Limit"));
        let below = steps[limit.unwrap_or_else(|| panic!("{plan}")) + 1];
        assert!(below.contains("Index") && below.contains(index), "{plan}");
        assert!(!plan.contains("Sort"), "{order:?}\n{plan}");
    }
}

/// Takes three groups of a list of mine.
pub(super) async fn break_off(groups: &SandboxGroups) {
    let mut taken = 0;
    let each = |_, _| {
        taken += 1;
        if taken < 3 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let (me, all) = (ME.parse().unwrap(), ListGroups::default());
    groups.each_of_account(&me, &all, each).await.unwrap();
    assert_eq!(taken, 3);
}

#[tokio::test]
async fn a_list_that_is_broken_off_reads_no_further_and_leaves_the_connection_usable() {
    for database in both() {
        let store = database.open().await;
        let groups = store.sandbox_groups();
        let made = made(GROUPS, &mut StdRng::seed_from_u64(18));
        fill(&groups, &made).await;
        let spoil = "UPDATE sandbox_groups SET state = 'not a document' \
                     WHERE id >= '120363000000000300@g.us'";
        store.batcher.raw(spoil).await.unwrap();
        let me: ParticipantId = ME.parse().unwrap();
        let all = ListGroups::default();
        // More often than there are connections.
        for _ in 0..10 {
            break_off(&groups).await;
            let first = groups.get(&group_id(1)).await.unwrap().unwrap();
            assert_eq!(first.subject.as_str(), made[&group_id(1)].0);
        }
        let whole = groups.of_account(&me, &all).await.unwrap_err();
        assert!(whole.to_string().contains("sandbox_groups"), "{whole}");
    }
}

#[tokio::test]
async fn a_store_of_the_version_before_gets_the_order_by_subject_and_an_older_release_keeps_it() {
    for database in both() {
        let store = database.open().await;
        let made = made(GROUPS, &mut StdRng::seed_from_u64(18));
        fill(&store.sandbox_groups(), &made).await;
        for undo in [
            "DROP INDEX sandbox_groups_by_subject",
            "DELETE FROM _sqlx_migrations WHERE version = 12",
        ] {
            store.batcher.raw(undo).await.unwrap();
        }
        let groups = database.open().await.sandbox_groups();
        // As a release writes it that knows nothing of the order.
        let rename = "UPDATE sandbox_groups SET subject = '~' \
                      WHERE id = '120363000000000001@g.us'";
        store.batcher.raw(rename).await.unwrap();
        let order = ListGroups {
            sort_by: SortBy::Subject,
            ..ListGroups::default()
        };
        let mut whole = expected(&made, ME, &order);
        whole.retain(|id| *id != group_id(1));
        whole.push(group_id(1));
        assert_eq!(listed(&groups, ME, &order).await, whole, "{}", database.url);
    }
}
