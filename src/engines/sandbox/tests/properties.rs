//! Whatever the sessions request, the groups stay consistent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ALICE, Answer, BOB, CAROL, DAVE, ERIN, World};
use crate::config;
use crate::contract::{ListGroups, Role};

/// All people, including one with a fixed outcome.
const PEOPLE: &[&str] = &[
    ALICE,
    BOB,
    CAROL,
    DAVE,
    ERIN,
    "99900770403@c.us",
    "491700000006@lid",
];
const SESSIONS: &[&str] = &["alice", "bob", "carol"];

/// A command, before it is known which groups exist.
#[derive(Debug, Clone)]
struct Step {
    session: usize,
    kind: u8,
    group: usize,
    people: Vec<usize>,
    flag: bool,
    /// Sent twice, with or without other commands in between.
    again: bool,
    hours: i64,
}

fn step() -> impl Strategy<Value = Step> {
    let people = prop::collection::vec(0..PEOPLE.len(), 1..4);
    (
        0..SESSIONS.len(),
        0..18_u8,
        0..3_usize,
        people,
        any::<bool>(),
        any::<bool>(),
        0..14_i64,
    )
        .prop_map(|(session, kind, group, people, flag, again, hours)| Step {
            session,
            kind,
            group,
            people,
            flag,
            again,
            hours,
        })
}

impl Step {
    fn command(&self, groups: &[String], codes: &[String]) -> (&'static str, Value) {
        let people: Vec<&str> = self.people.iter().map(|n| PEOPLE[*n]).collect();
        let unknown = "120363000000000009@g.us".to_owned();
        let group = groups.get(self.group).unwrap_or(&unknown);
        let named = json!({"groupId": group, "participants": people});
        let alone = json!({"groupId": group});
        match self.kind {
            0 => (
                "CreateGroup",
                json!({"name": "Group", "participants": people}),
            ),
            1..=3 => ("AddParticipants", named),
            4 => ("RemoveParticipants", named),
            5 => ("PromoteAdmin", named),
            6 => ("DemoteAdmin", named),
            7 => ("LeaveGroup", alone),
            8 => (
                "DeleteGroup",
                json!({"groupId": group, "forEveryone": self.flag}),
            ),
            9 => (
                "SetInfoAdminOnly",
                json!({"groupId": group, "adminsOnly": self.flag}),
            ),
            10 => ("RevokeInviteCode", alone),
            11 => (
                "SetMemberAddMode",
                json!({"groupId": group, "membersCanAddNewMember": self.flag}),
            ),
            12 => (
                "SetMembershipApproval",
                json!({"groupId": group, "newMembersApprovalRequired": self.flag}),
            ),
            13 | 14 => (
                "JoinGroup",
                json!({"code": codes.get(self.group).map_or("Unknown-code-12345", String::as_str)}),
            ),
            15 => ("ApproveJoinRequests", named),
            16 => ("RejectJoinRequests", named),
            _ => (
                "SetGroupSubject",
                json!({"groupId": group, "subject": people[0]}),
            ),
        }
    }
}

/// The last sequence number of each session and group.
type Counted = BTreeMap<(String, String), u64>;

fn count(answer: &Answer, counted: &mut Counted) {
    for event in &answer.events {
        let payload = serde_json::to_value(&event.payload).unwrap();
        let group = payload["chatId"]
            .as_str()
            .or(payload["group"]["id"].as_str())
            .unwrap();
        let before = counted
            .entry((event.session.to_string(), group.to_owned()))
            .or_default();
        *before += 1;
        assert_eq!(
            payload["sequence"], *before,
            "a gap in what {} sees",
            event.session
        );
    }
}

async fn check(world: &World, groups: &[String], answers: &BTreeMap<String, Answer>) {
    let mut effects = 0;
    for id in groups {
        let id = id.parse().unwrap();
        let state = world.groups.get(&id).await.unwrap().unwrap();
        let roles = || state.members.values().map(|member| member.role);
        assert!(roles().filter(|role| *role == Role::Superadmin).count() <= 1);
        assert!(state.members.is_empty() || roles().any(|role| role != Role::Participant));
        assert!(
            state
                .members
                .keys()
                .all(|who| !state.former.contains_key(who) && !state.waiting.contains_key(who))
        );
        // So does the table of invite codes.
        let code = state.invite_code.parse().unwrap();
        let found = world.groups.of_invite_code(&code).await.unwrap();
        assert_eq!(found.as_ref(), Some(&id));
        // The table of members agrees with the document.
        for who in PEOPLE {
            let who = who.parse().unwrap();
            let listed = world
                .groups
                .of_account(&who, &ListGroups::default())
                .await
                .unwrap();
            let listed = listed.iter().any(|(listed, _)| *listed == id);
            assert_eq!(listed, state.members.contains_key(&who));
        }
        let history = world.groups.history(&id).await.unwrap();
        assert_eq!(i64::try_from(history.len()).unwrap(), state.changes);
        effects += history.len();
        let mut commands: Vec<_> = history.iter().map(|entry| &entry.command_id).collect();
        commands.sort_unstable();
        commands.dedup();
        assert_eq!(commands.len(), history.len(), "a command had two effects");
    }
    // Every command with events had an effect; deleting what one has left has no event.
    let with_events = answers
        .values()
        .filter(|answer| !answer.events.is_empty())
        .count();
    assert!(with_events <= effects);
}

async fn play(steps: Vec<Step>) {
    let config = config::Sandbox {
        members_can_add: true,
        ..config::Sandbox::default()
    };
    let world = World::with(config).await;
    // A first group, so that few commands have no target.
    let mut groups = vec![world.group(&[BOB, CAROL, DAVE]).await];
    let mut answers = BTreeMap::new();
    let mut sent: Vec<(String, &str, &str, Value)> = Vec::new();
    let mut counted = Counted::new();
    let first = |session: &&str| (((*session).to_owned(), groups[0].clone()), 2);
    counted.extend(SESSIONS.iter().map(first));
    for (number, step) in steps.iter().enumerate() {
        let session = SESSIONS[step.session];
        let mut codes = Vec::new();
        for id in &groups {
            let group = world.groups.get(&id.parse().unwrap()).await.unwrap();
            codes.push(group.unwrap().invite_code);
        }
        let (name, payload) = step.command(&groups, &codes);
        let id = format!("p{number}");
        let answer = world.send_as(&id, session, name, payload.clone()).await;
        count(&answer, &mut counted);
        if let Ok(Value::Object(made)) = &answer.outcome
            && let Some(made) = made.get("participants").and(made.get("id"))
        {
            groups.push(made.as_str().unwrap().to_owned());
        }
        answers.insert(id.clone(), answer);
        sent.push((id, session, name, payload));
        if step.again {
            let (id, session, name, payload) = sent[number / 2].clone();
            // One without an effect may have its first one by now.
            if !answers[&id].events.is_empty() {
                let again = world.send_as(&id, session, name, payload).await;
                assert_eq!(again, answers[&id]);
            }
        }
        world.later(step.hours * 3_600_000);
    }
    check(&world, &groups, &answers).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_of_it_the_world_stays_consistent(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}
