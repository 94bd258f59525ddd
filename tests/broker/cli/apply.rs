//! `apply`: files that say how groups shall be, and what becomes of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use groupmq_test_support::worker::Options;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Ran, alone, output_of, run, run_with};
use crate::scene::{PATIENCE, Scene, create};

/// A folder with a file of groups.
pub(super) struct Files {
    folder: TempDir,
}

impl Files {
    pub(super) fn new(groups: &str) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.write("groups.yaml", groups);
        files
    }

    pub(super) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `groupmq apply` on the file of groups.
    pub(super) async fn apply(&self, options: &Options, rest: &[&str]) -> Ran {
        let file = self.path("groups.yaml").display().to_string();
        let mut arguments = vec!["apply", &file];
        arguments.extend(rest);
        let ran = run(options, &arguments).await;
        let folder = format!("{}/", self.folder.path().display());
        Ran {
            out: ran.out.replace(&folder, ""),
            err: ran.err.replace(&folder, ""),
            ..ran
        }
    }
}

/// The id of a group that `apply` has created.
pub(super) fn created(ran: &Ran) -> String {
    let (_, rest) = ran
        .out
        .split_once("created ")
        .unwrap_or_else(|| panic!("{ran:?}"));
    rest.split(':').next().unwrap().to_owned()
}

async fn group(scene: &Scene, id: &str, group: &str) -> Value {
    let reply = scene.call(id, "GetGroup", &json!({"groupId": group})).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    reply["result"].clone()
}

/// Waits for how often each person joined a group because of a command of `apply`.
pub(super) async fn joins(scene: &Scene, group: &str, people: usize) -> Vec<String> {
    let joined = |seen: &groupmq_test_support::producer::Seen| {
        let mut joined = Vec::new();
        for event in seen.events() {
            let payload = &event["payload"];
            let is_join = event["event"] == "group.v2.participants" && payload["type"] == "join";
            if is_join && payload["group"]["id"] == group {
                let ids = payload["participants"].as_array().unwrap().iter();
                joined.extend(ids.map(|it| it["id"].as_str().unwrap().to_owned()));
            }
        }
        (joined.len() >= people).then_some(joined)
    };
    let mut joined = scene.producer.until(PATIENCE, joined).await.unwrap();
    joined.sort();
    joined
}

#[tokio::test]
async fn apply_prints_the_differences_and_makes_them() {
    let scene = Scene::shared().await;
    let id = &scene.groups(1).await[0];
    let text = format!(
        "groupId: {id}
name: Climbing
exact: true
participants:
  - {{file: members.csv, column: phone, role: admin}}
  - 99900000000403@c.us
settings: {{infoAdminOnly: true}}
"
    );
    let files = Files::new(&text);
    files.write(
        "members.csv",
        "phone;name\n+1 555 000-0002;Anna\n+1 (555) 0000100;Ben\n",
    );
    let plan = format!(
        "groups.yaml:1  Climbing ({id}, session default)
  ~ subject: \"group-0\" → \"Climbing\"
  ~ infoAdminOnly: false → true
  + add 3 people: 15550000002, 15550000100, 99900000000403
  ~ promote 2 people: 15550000002, 15550000100
  - remove 1 person: 491700000001
"
    );
    let planned = files.apply(&scene.options, &["--plan"]).await;
    assert_eq!(
        (planned.code, planned.out.as_str()),
        (0, plan.as_str()),
        "{planned:?}"
    );
    assert_eq!(group(&scene, "g1", id).await["subject"], "group-0");

    let applied = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let done = applied
        .out
        .strip_prefix(&plan)
        .unwrap_or_else(|| panic!("{applied:?}"));
    assert!(
        done.contains("  + add 2 people: 15550000002, 15550000100\n"),
        "{done}"
    );
    assert!(
        done.contains("  - remove 1 person: 491700000001\n"),
        "{done}"
    );
    assert!(
        done.contains("  ! privacyBlocked (403): 1 person: 99900000000403\n"),
        "{done}"
    );
    let now = group(&scene, "g2", id).await;
    assert_eq!(
        (&now["subject"], &now["size"]),
        (&json!("Climbing"), &json!(3))
    );
    assert_eq!(now["settings"]["infoAdminOnly"], true);

    // Who was refused is tried again; nothing else is left.
    let again = files.apply(&scene.options, &["--plan"]).await;
    let left = "  + add 1 person: 99900000000403\n";
    assert!(again.out.ends_with(left), "{again:?}");
    files.write(
        "groups.yaml",
        &text.replace("  - 99900000000403@c.us\n", ""),
    );
    let nothing = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(nothing.code, 0, "{nothing:?}");
    assert!(nothing.out.ends_with("\n  is as wanted\n"), "{nothing:?}");
}

#[tokio::test]
async fn a_new_group_is_created_once_however_often_its_file_is_applied() {
    let scene = Scene::shared().await;
    let text = "name: New\nparticipants: [+1 555 000 0002]\n";
    let files = Files::new(text);
    let first = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    let id = created(&first);
    assert!(
        first
            .out
            .contains(&format!("write `groupId: {id}` into groups.yaml:1"))
    );

    let second = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(
        (second.code, created(&second)),
        (0, id.clone()),
        "{second:?}"
    );
    assert!(
        second
            .err
            .contains(&format!("note: groups.yaml:1: name is that of {id}"))
    );
    assert!(second.out.contains("this was done before"), "{second:?}");

    // With other content nobody knows what it means.
    files.write("groups.yaml", &format!("{text}description: changed\n"));
    let changed = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(changed.code, 3, "{changed:?}");
    assert!(changed.out.contains("ID_REUSED"), "{changed:?}");
    assert!(
        changed.out.contains("write its groupId here"),
        "{changed:?}"
    );

    let found = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(found.code, 3, "{found:?}");
    files.write(
        "groups.yaml",
        &format!("{text}description: changed\ngroupId: {id}\n"),
    );
    let known = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(known.code, 0, "{known:?}");
    assert!(
        known.out.contains("  ~ description: \"\" → \"changed\"\n"),
        "{known:?}"
    );
    let reply = scene.call("list", "ListGroups", &json!({})).await;
    assert_eq!(reply["result"].as_array().unwrap().len(), 1, "{reply}");
}

#[tokio::test]
async fn no_second_group_follows_when_the_ledger_has_forgotten_the_first() {
    let scene = Scene::shared().await;
    let files = Files::new("name: Old\n---\nname: Other\n");
    let reply = scene.call("old", "CreateGroup", &create("Old")).await;
    let id = reply["result"]["id"].as_str().unwrap().to_owned();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let forgetful = scene.options.clone().set("ledger.retention", "1s");
    let refused = files.apply(&forgetful, &["--yes"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    let reason = format!("groups.yaml:1: name is that of {id}, a group that this session is in.");
    assert!(refused.err.contains(&reason), "{refused:?}");
    let reply = scene.call("list", "ListGroups", &json!({})).await;
    assert_eq!(reply["result"].as_array().unwrap().len(), 1, "{reply}");
}

#[tokio::test]
async fn mistakes_are_named_before_anything_is_sent() {
    // There is no broker, which would be said otherwise.
    let files = Files::new(
        "name: One
nmae: x
participants: {file: members.csv, column: phone}
",
    );
    files.write(
        "members.csv",
        "phone\n+49 170 0000001\n0171 2345678\nsoon\n",
    );
    let refused = files.apply(&alone(), &["--yes"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{refused:?}");
    let lines: Vec<_> = refused
        .err
        .trim_start_matches("groupmq: ")
        .lines()
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("groups.yaml:2: nmae is not a field of a group"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("members.csv:3: phone begins with 0"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("members.csv:4: phone must be a phone number"),
        "{lines:?}"
    );
    assert!(!refused.err.contains("2345678"), "{refused:?}");

    let absent = run(&alone(), &["apply"]).await;
    assert_eq!(absent.code, 2, "{absent:?}");
}

#[tokio::test]
async fn without_a_terminal_to_ask_on_yes_is_needed() {
    let files = Files::new("name: One\n");
    let refused = files.apply(&alone(), &[]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--yes "), "{refused:?}");
    let unreachable = files.apply(&alone(), &["--plan"]).await;
    assert_eq!(unreachable.code, 5, "{unreachable:?}");
}

#[tokio::test]
async fn programs_read_one_line_of_json_for_each_group() {
    let scene = Scene::shared().await;
    let id = &scene.groups(1).await[0];
    let text = format!(
        "groupId: {id}
name: group-0
---
groupId: 123123123123@g.us
name: Nowhere
---
name: New
"
    );
    let stdin = run_with(&scene.options, &["apply", "-", "--yes", "--json"], &text).await;
    assert_eq!(stdin.code, 3, "{stdin:?}");
    let lines: Vec<Value> = stdin
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |line: u64| lines.iter().find(|it| it["line"] == line).unwrap();
    assert_eq!(lines.len(), 3, "{stdin:?}");
    assert_eq!(
        (&of(1)["file"], &of(1)["result"]["changes"]),
        (&json!("-"), &json!([]))
    );
    assert_eq!(of(4)["error"]["code"], "GROUP_NOT_FOUND");
    assert_eq!(of(7)["result"]["created"], true);
    assert!(stdin.err.contains("Nowhere"), "{stdin:?}");

    let planned = run_with(&scene.options, &["apply", "-", "--plan", "--json"], &text).await;
    assert_eq!(planned.code, 3, "{planned:?}");
    assert_eq!(planned.out.lines().count(), 3, "{planned:?}");
}

#[tokio::test]
async fn the_removal_of_more_than_half_of_a_group_needs_an_option() {
    let scene = Scene::shared().await;
    let id = &scene.groups(1).await[0];
    let people = json!({"groupId": id, "participants": ["491700000002", "491700000003"]});
    scene.call("more", "AddParticipants", &people).await;
    let files = Files::new(&format!("groupId: {id}\nexact: true\nparticipants: []\n"));
    let planned = files.apply(&scene.options, &["--plan"]).await;
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(planned.out.contains("removes 3 of 4 people"), "{planned:?}");
    let refused = files.apply(&scene.options, &["--yes"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--yes-remove"), "{refused:?}");
    assert_eq!(group(&scene, "g1", id).await["size"], 4);
    let removed = files
        .apply(&scene.options, &["--yes", "--yes-remove"])
        .await;
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(group(&scene, "g2", id).await["size"], 1);
}

#[tokio::test]
async fn on_a_terminal_it_asks() {
    let scene = Scene::shared().await;
    let id = &scene.groups(1).await[0];
    let files = Files::new(&format!("groupId: {id}\nname: Asked\n"));
    let file = files.path("groups.yaml").display().to_string();
    for (answer, code, subject) in [("n\n", 2, "group-0"), ("y\n", 0, "Asked")] {
        let plain = scene.options.command(&["apply", &file]);
        let words = std::iter::once(plain.get_program()).chain(plain.get_args());
        let words: Vec<_> = words.map(|it| it.to_str().unwrap()).collect();
        // It gives the command a terminal.
        let mut command = Command::new("script");
        command.args(["-qec", &words.join(" "), "/dev/null"]);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let ran = output_of(command, answer.to_owned()).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.out.contains("Apply these changes? [y/N] "), "{ran:?}");
        let now = group(&scene, &format!("g{code}"), id).await;
        assert_eq!(now["subject"], subject, "{ran:?}");
    }
}
