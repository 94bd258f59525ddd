//! A worker that dies between the start of a command and the record of its outcome, before or after the
//! effect: what is promised for the command that it leaves behind.

use std::time::Duration;

use groupmq::contract::{CommandType, Repeat};
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::worker::{Options, Worker, store_in};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene};
use super::world;

/// A command, and what is promised when the worker dies before or after its effect: the same as if it had
/// not died.
struct Row {
    command_type: CommandType,
    /// Its payload beside the group.
    payload: &'static str,
    /// What the next worker answers: a result in short.
    answer: &'static str,
    /// How many events the command's session gets of it.
    events: usize,
    /// How the group looks in the end.
    looks: &'static str,
}

const MEMBER: &str = r#"{"participants": ["491700000001@c.us"]}"#;
const ADMIN: &str = r#"{"participants": ["491700000002@c.us"]}"#;
const STRANGER: &str = r#"{"participants": ["491700000003@c.us"]}"#;

/// The account of the session `second`.
const SECOND: &str = r#"{"participants": ["15550000002@c.us"]}"#;

const PICTURE: &str = r#"{"picture": {"data": "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mNgYGiQY2hgYJBrkJNrAAAOZgJ5aJiVfAAAAABJRU5ErkJggg=="}}"#;

const TABLE: &[Row] = &[
    Row {
        command_type: CommandType::CreateGroup,
        payload: r#"{"name": "as it was", "participants": ["491700000001@c.us", "491700000002@c.us"]}"#,
        answer: "group",
        events: 2,
        looks: "as it was//false: 1 participant, 2 participant",
    },
    Row {
        command_type: CommandType::DeleteGroup,
        payload: "{}",
        answer: "true",
        events: 2,
        looks: "GROUP_NOT_FOUND",
    },
    Row {
        command_type: CommandType::LeaveGroup,
        payload: "{}",
        answer: "true",
        events: 2,
        looks: "NOT_A_MEMBER",
    },
    Row {
        command_type: CommandType::SetGroupSubject,
        payload: r#"{"subject": "another"}"#,
        answer: "true",
        events: 1,
        looks: "another//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetGroupDescription,
        payload: r#"{"description": "a word"}"#,
        answer: "true",
        events: 1,
        looks: "as it was/a word/false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetGroupPicture,
        payload: PICTURE,
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::DeleteGroupPicture,
        payload: "{}",
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetInfoAdminOnly,
        payload: "{}",
        answer: "true",
        events: 1,
        looks: "as it was//true: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetMessagesAdminOnly,
        payload: r#"{"adminsOnly": true}"#,
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetMemberAddMode,
        payload: r#"{"membersCanAddNewMember": false}"#,
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetMembershipApproval,
        payload: r#"{"newMembersApprovalRequired": true}"#,
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetMemberShareHistory,
        payload: r#"{"membersCanShareHistory": false}"#,
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::SetDisappearingMessages,
        payload: r#"{"seconds": 86400}"#,
        answer: "true",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::AddParticipants,
        payload: STRANGER,
        answer: "ok",
        events: 2,
        looks: "as it was//false: 1 participant, 2 admin, 3 participant",
    },
    Row {
        command_type: CommandType::RemoveParticipants,
        payload: MEMBER,
        answer: "ok",
        events: 2,
        looks: "as it was//false: 2 admin",
    },
    Row {
        command_type: CommandType::PromoteAdmin,
        payload: MEMBER,
        answer: "ok",
        events: 1,
        looks: "as it was//false: 1 admin, 2 admin",
    },
    Row {
        command_type: CommandType::DemoteAdmin,
        payload: ADMIN,
        answer: "ok",
        events: 1,
        looks: "as it was//false: 1 participant, 2 participant",
    },
    Row {
        command_type: CommandType::RevokeInviteCode,
        payload: "{}",
        answer: "code",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::JoinGroup,
        payload: "{}",
        answer: "ok",
        events: 4,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::ApproveJoinRequests,
        payload: SECOND,
        answer: "ok",
        events: 5,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::RejectJoinRequests,
        payload: SECOND,
        answer: "ok",
        events: 1,
        looks: "as it was//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::EnsureGroup,
        payload: r#"{"name": "another"}"#,
        answer: "ensured",
        events: 1,
        looks: "another//false: 1 participant, 2 admin",
    },
    Row {
        command_type: CommandType::GetGroup,
        payload: "{}",
        answer: "group",
        events: 0,
        looks: "as it was//false: 1 participant, 2 admin",
    },
];

/// The group of a row, and its invite code.
struct Place {
    group: String,
    code: String,
}

impl Row {
    /// Each row has a session, which goes wrong for one worker only.
    fn session(&self) -> String {
        self.command_type.as_str().to_lowercase()
    }

    fn id(&self) -> String {
        format!("left-behind-{}", self.command_type.as_str())
    }

    fn command(&self, Place { group, code }: &Place) -> Command {
        let mut payload: Value = serde_json::from_str(self.payload).unwrap();
        match self.command_type {
            CommandType::CreateGroup => {}
            CommandType::JoinGroup => payload["code"] = json!(code),
            _ => payload["groupId"] = json!(group),
        }
        let command_type = self.command_type.as_str();
        Command::new(&self.id(), command_type, &self.session(), &payload)
    }

    /// A group of the session; of another one, where the session is to join.
    async fn group(&self, scene: &Scene) -> Place {
        let session = match self.command_type {
            CommandType::JoinGroup => "default".to_owned(),
            _ => self.session(),
        };
        let by = async |session: &str, command: &str, payload: &Value| {
            let id = format!("{}-{command}", self.session());
            let command = Command::new(&id, command, session, payload);
            let reply = scene.producer.call(command).await.unwrap();
            assert_eq!(reply["status"], "ok", "{reply}");
            reply["result"].clone()
        };
        let create: Value = serde_json::from_str(TABLE[0].payload).unwrap();
        let create = Command::new(
            &format!("{}-group", self.session()),
            "CreateGroup",
            &session,
            &create,
        );
        let made = scene.producer.call(create).await.unwrap();
        let group = made["result"]["id"].as_str().unwrap();
        let mut admin: Value = serde_json::from_str(ADMIN).unwrap();
        admin["groupId"] = json!(group);
        let promote = format!("{}-admin", self.session());
        let promote = Command::new(&promote, "PromoteAdmin", &session, &admin);
        scene.producer.call(promote).await.unwrap();
        if self.command_type == CommandType::DeleteGroupPicture {
            let mut picture: Value = serde_json::from_str(PICTURE).unwrap();
            picture["groupId"] = json!(group);
            by(&session, "SetGroupPicture", &picture).await;
        }
        let it = json!({ "groupId": group });
        let invite = by(&session, "GetInviteCode", &it).await;
        let code = invite["inviteCode"].as_str().unwrap().to_owned();
        if matches!(
            self.command_type,
            CommandType::ApproveJoinRequests | CommandType::RejectJoinRequests
        ) {
            let approval = json!({"groupId": group, "newMembersApprovalRequired": true});
            by(&session, "SetMembershipApproval", &approval).await;
            by("second", "JoinGroup", &json!({ "code": code })).await;
        }
        let group = group.to_owned();
        Place { group, code }
    }

    /// Has a worker die over the command.
    async fn leave_behind(&self, scene: &Scene, crash: &str, place: &Place) {
        let fault = |name| format!("engine.sandbox.faults.{}.{name}", self.session());
        let reads = self.command_type.repeat() == Repeat::ReadOnly;
        let options = scene.options.clone();
        let mut doomed = Worker::start(&if reads {
            options.set(&fault("delay"), "1h")
        } else {
            options.set(&fault("crash"), crash)
        })
        .await
        .unwrap();
        scene.producer.send(self.command(place)).await.unwrap();
        if reads {
            // There is no record of it to die around; any moment is as good.
            tokio::time::sleep(Duration::from_millis(300)).await;
            doomed.kill().unwrap();
        }
        while doomed.ended().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A result in short, or an error code.
fn short(reply: &Value) -> String {
    let result = &reply["result"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&reply["error"]["code"])
        .or_else(|| text(&result[0]["outcome"]))
        .or_else(|| text(&result["outcome"]))
        .or_else(|| result.get("changes").map(|_| "ensured".to_owned()))
        .or_else(|| result.get("inviteCode").map(|_| "code".to_owned()))
        .or_else(|| result.get("id").map(|_| "group".to_owned()))
        .unwrap_or_else(|| result.to_string())
}

/// How a session sees its group: subject, description, setting, and who is in it beside itself.
async fn looks(scene: &Scene, session: &str, group: &str) -> String {
    let look = Command::new(
        &format!("{session}-look"),
        "GetGroup",
        session,
        &json!({ "groupId": group }),
    );
    let reply = scene.producer.call(look).await.unwrap();
    let result = &reply["result"];
    if result.is_null() {
        return short(&reply);
    }
    let people = result["participants"].as_array().unwrap();
    let others: Vec<_> = people
        .iter()
        .filter_map(|person| {
            let number = person["id"].as_str()?.strip_prefix("49170000000")?;
            let number = number.strip_suffix("@c.us")?;
            Some(format!("{number} {}", person["role"].as_str()?))
        })
        .collect();
    format!(
        "{}/{}/{}: {}",
        result["subject"].as_str().unwrap(),
        result["description"].as_str().unwrap(),
        result["settings"]["infoAdminOnly"],
        others.join(", ")
    )
}

/// How many different events a command caused.
fn events_of(seen: &Seen, id: &str) -> usize {
    let events = seen.events();
    let caused = events
        .iter()
        .filter(|event| event["payload"]["commandId"] == id);
    caused.count()
}

/// The numbers of the events of a group that a session sees, in their order.
fn sequences(seen: &Seen, session: &str, group: &str) -> Vec<u64> {
    let events = seen.events();
    let own = events.iter().filter(|event| event["session"] == session);
    let own = own.map(|event| &event["payload"]);
    let own = own.filter(|payload| payload["chatId"] == group || payload["group"]["id"] == group);
    own.map(|payload| payload["sequence"].as_u64().unwrap())
        .collect()
}

/// Every row's session, with a number of its own.
fn with_sessions(options: Options) -> Options {
    let number = |n| format!("155510000{n:02}");
    TABLE.iter().enumerate().fold(options, |options, (n, row)| {
        let key = format!("engine.sandbox.sessions.{}", row.session());
        options.set(&key, number(n))
    })
}

async fn assert_promised(scene: &Scene, store: &str, row: &Row, place: &Place) {
    let id = row.id();
    let reply = scene.producer.reply(&id).await.unwrap();
    let made = reply["result"]["id"].as_str();
    let group = made.unwrap_or(&place.group);
    let came = |seen: &Seen| (events_of(seen, &id) >= row.events).then_some(());
    let came = scene.producer.until(PATIENCE, came).await;
    came.unwrap_or_else(|error| panic!("{error:#}: {reply}"));
    let looks = looks(scene, &row.session(), group).await;
    let history = world::history(store, group).await;
    // What prepared the group is named after the session; a part of a command has an id of its own.
    let session = format!("{}-", row.session());
    let effects = history.iter().filter(|it| !it.starts_with(&session));
    let effects = effects.count();
    let wanted_effects = usize::from(row.command_type.repeat() != Repeat::ReadOnly);
    let seen = scene.producer.seen();
    let (answer, events) = (short(&reply), events_of(seen, &id));
    let name = row.command_type.as_str();
    println!("  {name}: {answer}, {effects} effects, {events} events; {looks}");
    let found = (answer.as_str(), effects, events, looks.as_str());
    let wanted = (row.answer, wanted_effects, row.events, row.looks);
    assert_eq!(found, wanted, "{name}: {reply}");
    let sequences = sequences(seen, &row.session(), group);
    let in_order: Vec<_> = (1..).take(sequences.len()).collect();
    assert_eq!(sequences, in_order, "{name}");
    // A copy has the id of the first reply, and the same result.
    for copy in seen.replies(&id) {
        assert_eq!(copy.body["id"], reply["id"], "{name}");
        assert_eq!(copy.body["result"], reply["result"], "{name}");
    }
}

/// One worker after the other dies over a command; then one is well and sees to them all. They wait
/// together until the dead count as dead.
async fn all_end_as_promised(crash: &str, store: &str) {
    let mut scene =
        Scene::shared_with(|options| with_sessions(options).set("store.url", store)).await;
    let mut groups = Vec::new();
    for row in TABLE {
        // Also for `CreateGroup`, whose new group looks like this one.
        groups.push(row.group(&scene).await);
    }
    scene.worker.stop().await.unwrap();
    for (row, group) in TABLE.iter().zip(&groups) {
        row.leave_behind(&scene, crash, group).await;
    }
    scene.worker = Worker::start(&scene.options).await.unwrap();
    println!("died {crash}, of {} commands:", TABLE.len());
    for (row, group) in TABLE.iter().zip(&groups) {
        assert_promised(&scene, store, row, group).await;
    }
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}

async fn all_end_as_promised_on_sqlite(crash: &str) {
    let folder = tempfile::tempdir().unwrap();
    all_end_as_promised(crash, &store_in(folder.path())).await;
}

async fn all_end_as_promised_on_postgres(crash: &str) {
    let database = Postgres::shared().unwrap().database().unwrap();
    all_end_as_promised(crash, &database.url).await;
}

#[tokio::test]
async fn a_command_whose_worker_died_before_the_effect_ends_as_promised() {
    all_end_as_promised_on_sqlite("before-effect").await;
}

#[tokio::test]
async fn a_command_whose_worker_died_after_the_effect_ends_as_promised() {
    all_end_as_promised_on_sqlite("after-effect").await;
}

#[tokio::test]
async fn on_postgres_a_command_whose_worker_died_before_the_effect_ends_as_promised() {
    all_end_as_promised_on_postgres("before-effect").await;
}

#[tokio::test]
async fn on_postgres_a_command_whose_worker_died_after_the_effect_ends_as_promised() {
    all_end_as_promised_on_postgres("after-effect").await;
}

#[test]
fn every_command_that_changes_something_has_its_promise() {
    for &command_type in CommandType::ALL {
        let promised = TABLE.iter().any(|row| row.command_type == command_type);
        let reads = command_type.repeat() == Repeat::ReadOnly;
        // No engine sees these: the store does them, and doing them twice does nothing more.
        let no_engines = command_type.as_str().ends_with("Webhook");
        assert!(promised || reads || no_engines, "{}", command_type.as_str());
    }
}
