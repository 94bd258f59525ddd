//! The sandbox's groups: one effect for each command, however many workers send it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::{Database, both, key, record, text};
use crate::contract::{CommandType, GroupId, ListGroups, Role, SortBy, SortOrder, Timestamp};
use crate::store::ledger::{PurgeLimits, Record};
use crate::store::sandbox_groups::{Member, SandboxGroup, SandboxGroups, World};
use crate::store::{Error, Store};

pub(super) const PRINT: [u8; 32] = [7; 32];
pub(super) const ME: &str = "491700000001@c.us";
pub(super) const OTHER: &str = "491700000002@c.us";

pub(super) fn group_id(n: usize) -> GroupId {
    format!("120363{n:012}@g.us").parse().unwrap()
}

pub(super) fn state(subject: &str, members: &[&str]) -> SandboxGroup {
    let member = |(number, who): (u64, &&str)| {
        (
            who.parse().unwrap(),
            Member {
                role: Role::Admin,
                number,
            },
        )
    };
    SandboxGroup {
        subject: subject.parse().unwrap(),
        description: crate::contract::Description::default(),
        owner: "491700000001@c.us".parse().unwrap(),
        created_at: Timestamp(jiff::Timestamp::UNIX_EPOCH),
        settings: crate::contract::GroupSettings::OF_NEW_GROUPS,
        invite_code: CODE.to_owned(),
        code_listed: false,
        picture: None,
        members: (1..).zip(members).map(member).collect(),
        former: [].into(),
        waiting: [].into(),
        joined: 9,
        sequences: [].into(),
        changes: 0,
    }
}

const CODE: &str = "HD9B7MXXHrvrVVXW7FxuT5";

/// Creates the group, or counts one up in it.
async fn bump(groups: &SandboxGroups, command: &str, group: usize) -> Result<Record, Error> {
    let id = group_id(group);
    let step = move |world: &mut World<'_>| {
        let at = Timestamp(jiff::Timestamp::UNIX_EPOCH);
        let joined = if let Some(state) = world.group(&id)? {
            state.joined += 1;
            state.joined
        } else {
            world.insert(&id, state("new", &[ME]));
            9
        };
        world.changed(&id, CommandType::SetGroupSubject, at);
        Ok(record(&joined.to_string()))
    };
    let groups = groups.change(key(command), PRINT, vec![group_id(group)], step);
    Ok(groups.await?.unwrap())
}

async fn stores(database: &Database, count: usize) -> Vec<Store> {
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(database.open().await);
    }
    stores
}

#[tokio::test]
async fn a_command_changes_its_group_once_and_replays_its_record() {
    for database in both() {
        let groups = database.open().await.sandbox_groups();
        bump(&groups, "create", 1).await.unwrap();
        let fresh = bump(&groups, "a", 1).await.unwrap();
        let again = bump(&groups, "a", 1).await.unwrap();
        assert_eq!(
            (text(&fresh), text(&again)),
            ("\"10\"".to_owned(), "\"10\"".to_owned())
        );
        assert_eq!(groups.get(&group_id(1)).await.unwrap().unwrap().joined, 10);
        let history = groups.history(&group_id(1)).await.unwrap();
        let commands: Vec<_> = history
            .iter()
            .map(|entry| entry.command_id.as_str())
            .collect();
        assert_eq!(commands, ["create", "a"]);
        let reused = groups
            .change(key("a"), [0; 32], vec![], |_| Ok(record("never")))
            .await;
        assert!(reused.unwrap().is_none());
        let outcome = groups.outcome(key("a"), PRINT).await.unwrap();
        assert_eq!(text(&outcome.unwrap()), "\"10\"");
        assert!(groups.outcome(key("a"), [0; 32]).await.unwrap().is_none());
        assert!(groups.outcome(key("b"), PRINT).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn two_workers_with_the_same_commands_have_one_effect_each() {
    for database in both() {
        let stores = stores(&database, 2).await;
        // Every command twice on each worker, over few groups, all at once.
        let calls = (0..400).map(|n: usize| {
            let groups = stores[n % 2].sandbox_groups();
            async move {
                let command = n / 4;
                let outcome = bump(&groups, &format!("c{command}"), command % 5).await;
                text(&outcome.unwrap())
            }
        });
        let outcomes = join_all(calls).await;
        for same in outcomes.chunks(4) {
            assert!(same.iter().all(|it| *it == same[0]), "{same:?}");
        }
        let groups = stores[0].sandbox_groups();
        for group in 0..5 {
            let state = groups.get(&group_id(group)).await.unwrap().unwrap();
            assert_eq!(
                (state.joined, state.changes),
                (9 + 19, 20),
                "{}",
                database.url
            );
            let history = groups.history(&group_id(group)).await.unwrap();
            let numbers: Vec<_> = history.iter().map(|entry| entry.n).collect();
            assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_step_that_panics_fails_alone() {
    for database in both() {
        let groups = database.open().await.sandbox_groups();
        let good = |n: usize| {
            let groups = groups.clone();
            async move { bump(&groups, &format!("c{n}"), 1).await }
        };
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let bad = groups.change(key("bad"), PRINT, vec![group_id(1)], move |world| {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(state) = world.group(&group_id(1))? {
                state.joined = 1_000_000;
            }
            panic!("on purpose")
        });
        let (before, bad, after) = tokio::join!(
            join_all((0..20).map(good)),
            bad,
            join_all((20..40).map(good))
        );
        assert_eq!(
            bad.unwrap_err().to_string(),
            "a step of the store panicked: on purpose"
        );
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert!(before.iter().chain(&after).all(Result::is_ok));
        let state = groups.get(&group_id(1)).await.unwrap().unwrap();
        assert_eq!(state.joined, 9 + 39);
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_written_fails_alone() {
    for database in both() {
        let groups = database.open().await.sandbox_groups();
        let good = |n: usize| {
            let groups = groups.clone();
            async move { bump(&groups, &format!("c{n}"), 1).await }
        };
        let bad = groups.change(key("bad"), PRINT, vec![group_id(2)], |world| {
            let at = Timestamp(jiff::Timestamp::UNIX_EPOCH);
            world.insert(&group_id(2), state("bad", &[ME]));
            world.changed(&group_id(2), CommandType::CreateGroup, at);
            // The same number again, which the history's key forbids every time.
            world.insert(&group_id(2), state("bad", &[ME]));
            world.changed(&group_id(2), CommandType::CreateGroup, at);
            Ok(record("never"))
        });
        let (before, bad, after) = tokio::join!(
            join_all((0..20).map(good)),
            bad,
            join_all((20..40).map(good))
        );
        assert!(matches!(bad.unwrap_err(), Error::Contended { .. }));
        assert!(before.iter().chain(&after).all(Result::is_ok));
        assert!(groups.get(&group_id(2)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn lists_are_sorted_and_cut_by_the_database() {
    for database in both() {
        let groups = database.open().await.sandbox_groups();
        // Bytes decide: capitals before small letters, on both databases.
        let all = [
            (1, "b", true),
            (2, "B", true),
            (3, "a", false),
            (4, "é", true),
            (5, "b", true),
        ];
        for (n, subject, mine) in all {
            let members: &[&str] = if mine { &[ME, OTHER] } else { &[OTHER] };
            let step = move |world: &mut World<'_>| {
                world.insert(&group_id(n), state(subject, members));
                let at = Timestamp(jiff::Timestamp::UNIX_EPOCH);
                world.changed(&group_id(n), CommandType::CreateGroup, at);
                Ok(record("made"))
            };
            groups
                .change(key(&format!("k{n}")), PRINT, vec![group_id(n)], step)
                .await
                .unwrap();
        }
        let list = async |who: &str, asked: ListGroups| -> Vec<GroupId> {
            let found = groups
                .of_account(&who.parse().unwrap(), &asked)
                .await
                .unwrap();
            found.into_iter().map(|(id, _)| id).collect()
        };
        let ids = |numbers: &[usize]| numbers.iter().map(|n| group_id(*n)).collect::<Vec<_>>();
        assert_eq!(list(ME, ListGroups::default()).await, ids(&[1, 2, 4, 5]));
        assert_eq!(list(OTHER, ListGroups::default()).await.len(), 5);
        let by_subject = ListGroups {
            sort_by: SortBy::Subject,
            ..ListGroups::default()
        };
        assert_eq!(list(ME, by_subject.clone()).await, ids(&[2, 1, 5, 4]));
        let cut = ListGroups {
            limit: Some(2),
            offset: 1,
            sort_order: SortOrder::Desc,
            ..by_subject
        };
        assert_eq!(list(ME, cut).await, ids(&[5, 1]));
    }
}

#[tokio::test]
async fn an_old_outcome_is_forgotten_unless_its_command_is_started_and_the_history_stays() {
    for database in both() {
        let store = database.open().await;
        let (groups, ledger) = (store.sandbox_groups(), store.ledger());
        for id in ["started", "a", "b", "c"] {
            bump(&groups, id, 1).await.unwrap();
        }
        ledger.claim(key("started"), PRINT, "me").await.unwrap();
        ledger.claim(key("a"), PRINT, "me").await.unwrap();
        ledger.complete(key("a"), record("done")).await.unwrap();
        // All are of the time 1000.
        let at = |at| Timestamp(jiff::Timestamp::from_millisecond(at).unwrap());
        assert_eq!(groups.purge_outcomes(at(1000), 100).await.unwrap(), 0);
        assert_eq!(groups.purge_outcomes(at(1001), 2).await.unwrap(), 2);
        assert_eq!(groups.purge_outcomes(at(1001), 2).await.unwrap(), 1);
        let outcome = async |id| groups.outcome(key(id), PRINT).await.unwrap();
        assert!(outcome("started").await.is_some(), "{}", database.url);
        for id in ["a", "b", "c"] {
            assert!(outcome(id).await.is_none(), "{}", database.url);
        }
        assert_eq!(groups.history(&group_id(1)).await.unwrap().len(), 4);
        // Its id is that of a new command then.
        bump(&groups, "b", 1).await.unwrap();
        assert_eq!(groups.history(&group_id(1)).await.unwrap().len(), 5);

        // Once the ledger has forgotten the start, the outcome goes too.
        let all = at(1001);
        let limits = PurgeLimits {
            finished: all,
            started: all,
        };
        ledger.purge(limits, 100).await.unwrap();
        assert_eq!(groups.purge_outcomes(all, 100).await.unwrap(), 2);
        assert!(outcome("started").await.is_none(), "{}", database.url);
    }
}

#[tokio::test]
async fn a_store_of_the_version_before_gets_the_table_of_outcomes_and_goes_on() {
    for database in both() {
        let store = database.open().await;
        bump(&store.sandbox_groups(), "before", 1).await.unwrap();
        for undo in [
            "DROP TABLE sandbox_outcomes",
            "DELETE FROM _sqlx_migrations WHERE version = 10",
        ] {
            store.batcher.raw(undo).await.unwrap();
        }
        let groups = database.open().await.sandbox_groups();
        let fresh = bump(&groups, "after", 1).await.unwrap();
        let again = bump(&groups, "after", 1).await.unwrap();
        assert_eq!(text(&fresh), text(&again), "{}", database.url);
        let history = groups.history(&group_id(1)).await.unwrap();
        let commands: Vec<_> = history.iter().map(|it| it.command_id.as_str()).collect();
        assert_eq!(commands, ["before", "after"], "{}", database.url);
    }
}

#[tokio::test]
async fn a_store_of_the_version_before_gets_the_codes_of_its_groups() {
    for database in both() {
        let store = database.open().await;
        bump(&store.sandbox_groups(), "before", 1).await.unwrap();
        for undo in [
            "DROP TABLE sandbox_invite_codes",
            "DELETE FROM _sqlx_migrations WHERE version = 11",
            "INSERT INTO sandbox_groups (id, subject, version, state) \
             VALUES ('120363000000000099@g.us', 'x', 1, 'not a document')",
        ] {
            store.batcher.raw(undo).await.unwrap();
        }
        let groups = database.open().await.sandbox_groups();
        let code = CODE.parse().unwrap();
        let found = groups.of_invite_code(&code).await.unwrap();
        assert_eq!(found, Some(group_id(1)), "{}", database.url);
        let unknown = "Unknown-code-12345".parse().unwrap();
        assert_eq!(groups.of_invite_code(&unknown).await.unwrap(), None);
    }
}

/// During an update, an older release writes groups without the rows of their codes.
#[tokio::test]
async fn the_code_of_a_group_that_an_older_release_wrote_is_listed_by_the_next_change() {
    for database in both() {
        let store = database.open().await;
        let groups = store.sandbox_groups();
        bump(&groups, "new", 1).await.unwrap();
        let code = CODE.parse().unwrap();
        // It keeps no field that it does not know.
        for undo in [
            "DELETE FROM sandbox_invite_codes",
            "UPDATE sandbox_groups SET state = replace(state, ',\"code_listed\":true', '')",
        ] {
            store.batcher.raw(undo).await.unwrap();
        }
        assert_eq!(groups.of_invite_code(&code).await.unwrap(), None);
        bump(&groups, "next", 1).await.unwrap();
        let found = groups.of_invite_code(&code).await.unwrap();
        assert_eq!(found, Some(group_id(1)), "{}", database.url);
        // From then on it is not written again.
        let undo = "DELETE FROM sandbox_invite_codes";
        store.batcher.raw(undo).await.unwrap();
        bump(&groups, "third", 1).await.unwrap();
        assert_eq!(groups.of_invite_code(&code).await.unwrap(), None);
    }
}
