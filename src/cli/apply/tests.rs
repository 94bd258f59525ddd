//! Reading files: what is wanted, and what is wrong where.

use std::fmt::Write as _;
use std::path::Path;

use crate::executor::decode::Decoder;

use super::file::{self, Read};

/// Reads a file of this content, with others beside it.
fn read(text: &str, others: &[(&str, &[u8])]) -> Read {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).unwrap();
    };
    for (name, content) in others {
        write(name, content);
    }
    write("groups.yaml", text.as_bytes());
    let file = folder.path().join("groups.yaml").display().to_string();
    let mut read = file::read_all(&[file], &"default".parse().unwrap(), &Decoder::new());
    let places = read.groups.iter_mut().map(|it| &mut it.place.file);
    for place in places {
        *place = name(place);
    }
    read
}

fn name(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap();
    name.to_string_lossy().into_owned()
}

/// The problems, with the names of files alone.
fn problems(read: &Read) -> Vec<String> {
    lines(&read.problems)
}

fn lines(problems: &[super::Problem]) -> Vec<String> {
    let line = |problem: &super::Problem| {
        let folder = Path::new(&problem.place.file).parent().unwrap();
        let folder = format!("{}/", folder.display());
        problem.to_string().replace(&folder, "")
    };
    problems.iter().map(line).collect()
}

fn people(read: &Read) -> Vec<String> {
    let people = read.groups[0].group.participants.iter().flatten();
    let text = |it: &crate::contract::WantedParticipant| match it.role {
        Some(role) => format!("{} {role:?}", it.id),
        None => it.id.to_string(),
    };
    people.map(text).collect()
}

#[test]
fn each_document_is_a_group_in_the_words_of_the_payload() {
    let text = "\
groupId: 120363000000000001@g.us
name: 2026
description: |
  Two
  lines
exact: true
session: second
participants:
  - +491700000001
  - 0049 170 0000002
  - {id: 491700000003@c.us, role: admin}
settings:
  infoAdminOnly: true
  disappearingSeconds: 86400
---
name: New
id: first
---
";
    let read = read(text, &[]);
    assert_eq!(problems(&read), [""; 0]);
    let [one, other] = read.groups.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(one.place.to_string(), "groups.yaml:1");
    assert_eq!(one.session.as_str(), "second");
    assert_eq!(one.group.name.as_ref().unwrap().as_str(), "2026");
    assert_eq!(
        one.group.description.as_ref().unwrap().as_str(),
        "Two\nlines\n"
    );
    assert!(one.group.exact && !one.group.plan && !one.group.confirm_remove);
    assert_eq!(one.group.settings.info_admin_only, Some(true));
    let timer = one.group.settings.disappearing_seconds.unwrap();
    assert_eq!(timer.seconds(), 86_400);
    assert_eq!(
        people(&read),
        [
            "491700000001@c.us",
            "491700000002@c.us",
            "491700000003@c.us Admin"
        ]
    );
    assert_eq!(other.place.to_string(), "groups.yaml:16");
    assert_eq!(other.session.as_str(), "default");
    assert_eq!(
        (other.key.as_str(), other.group.group_id.as_ref()),
        ("id first", None)
    );
}

#[test]
fn json_is_read_too_with_a_byte_order_mark_and_as_a_list() {
    let text = "\u{feff}[\n  {\"name\": \"One\"},\n  {\"groupId\": \"120363000000000001@g.us\", \"participants\": [\"+491700000001\"]}\n]";
    let read = read(text, &[]);
    assert_eq!(problems(&read), [""; 0]);
    let places: Vec<_> = read.groups.iter().map(|it| it.place.to_string()).collect();
    assert_eq!(places, ["groups.yaml:2", "groups.yaml:3"]);
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text = "\
name: One
subject: x
plan: true
confirmRemove: true
session: two words
exact: true
---
description: no group
settings: {infoAdminOnly: 'yes', disappearingSeconds: 5, colour: red}
---
name: ''
groupId: 123
participants:
  - 0170 0000001
  - {id: n/a, role: boss, name: Anna}
  - [x]
  - {role: admin}
---
just a text
---
name: Two
participants: everybody
";
    let read = read(text, &[]);
    let problems = problems(&read);
    let expected = [
        "groups.yaml:2: subject is not a field of a group; it has session, id, groupId, name, description, participants, exact, settings",
        "groups.yaml:3: plan belongs to the command: --plan",
        "groups.yaml:4: confirmRemove belongs to the command: --yes-remove",
        "groups.yaml:6: exact needs participants",
        "groups.yaml:5: session must be 1 to 64 letters, digits, '_' or '-'",
        "groups.yaml:8: must have a groupId, or the name of a new group",
        "groups.yaml:9: settings.colour is not a field of this object",
        "groups.yaml:9: settings.infoAdminOnly must be true or false",
        "groups.yaml:9: settings.disappearingSeconds must be",
        "groups.yaml:14: participants[0] begins with 0, so its country code is missing",
        "groups.yaml:15: participants[1].name is not a field here; there are id, role",
        "groups.yaml:15: participants[1].role must be participant, admin or superadmin",
        "groups.yaml:15: participants[1].id must be a phone number",
        "groups.yaml:16: participants[2] must be a phone number, an id, or an object",
        "groups.yaml:17: participants[3].id is required",
        "groups.yaml:12: groupId must be a group id such as 123123123123@g.us",
        "groups.yaml:11: name must be 1 to 100 characters",
        "groups.yaml:19: must be a group",
        "groups.yaml:22: participants must be a list of people",
    ];
    for line in expected {
        assert!(
            problems.iter().any(|it| it.starts_with(line)),
            "{line} is not in {problems:#?}"
        );
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_file_that_is_no_yaml_is_named_with_the_line() {
    let read = read("name: One\nparticipants: [a, b\n---\n", &[]);
    let problems = problems(&read);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("groups.yaml:"), "{problems:?}");
    let twice = self::read("name: One\nname: Two\n", &[]);
    assert!(
        self::problems(&twice)[0].starts_with("groups.yaml:2: "),
        "{twice:?}"
    );
    let empty = self::read("# nothing\n", &[]);
    assert_eq!(self::problems(&empty), ["groups.yaml:1: has no groups"]);
    let missing = file::read_all(
        &["/nowhere/groups.yaml".to_owned()],
        &"default".parse().unwrap(),
        &Decoder::new(),
    );
    assert!(problems_of(&missing).starts_with("/nowhere/groups.yaml:1: cannot be read"));
}

fn problems_of(read: &Read) -> String {
    read.problems[0].to_string()
}

#[test]
fn people_come_from_a_csv_file_beside_it() {
    let text = "\
name: One
participants:
  - {file: admins.csv, column: Telefon, role: admin}
  - {file: members.csv, column: phone}
";
    let admins = "\u{feff}Name;Telefon\r\n\"Anna; A\";+49 170 000-0001\r\n";
    // A name in Latin-1, which is nobody's business.
    let members =
        b"phone,name\n+49 170 0000001,Anna\n\n00491700000002,J\xf6rg\n491700000002,again\n";
    let read = read(
        text,
        &[("admins.csv", admins.as_bytes()), ("members.csv", members)],
    );
    assert_eq!(problems(&read), [""; 0]);
    assert_eq!(
        people(&read),
        ["491700000001@c.us Admin", "491700000002@c.us"]
    );
    assert_eq!(
        lines(&read.notes),
        [
            "members.csv:2: phone is the person of admins.csv:2, and counts once",
            "members.csv:5: phone is the person of members.csv:4, and counts once",
        ]
    );
}

#[test]
fn every_bad_row_is_named_by_its_line() {
    let text = "name: One\nparticipants: {file: members.csv, column: phone}\n";
    let members = "\
phone\tname
0171 2345678\tno country code
+49 170 0000002\tfine

\tempty
\"+49 170
0000003\"\ttwo lines
4.91700000001E+11\tExcel
";
    let read = read(text, &[("members.csv", members.as_bytes())]);
    let problems = problems(&read);
    let places: Vec<_> = problems
        .iter()
        .map(|it| it.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["members.csv:2", "members.csv:5", "members.csv:8"],
        "{problems:#?}"
    );
    assert!(!problems.join("").contains("2345678"), "{problems:?}");
    for (members, reason) in [
        (
            &b"name\nAnna\n"[..],
            "has no column \"phone\" in its first row, which has: name",
        ),
        (b"phone,phone\n1,2\n", "has two columns \"phone\""),
        (b"phone\n", "has no rows"),
        (b"", "has no column \"phone\" in its first row"),
        (b"\xff\xfep\0h\0", "is UTF-16"),
    ] {
        let read = self::read(text, &[("members.csv", members)]);
        let problems = self::problems(&read);
        assert!(problems[0].contains(reason), "{problems:?}");
    }
    let absent = self::read(text, &[]);
    assert!(self::problems(&absent)[0].contains("members.csv:1: cannot be read"));
}

#[test]
fn one_person_has_one_role_and_one_group_one_document() {
    let text = "\
groupId: 120363000000000001@g.us
participants: [{id: +491700000001, role: admin}, {id: +491700000001, role: participant}]
";
    let read = read(text, &[]);
    let refused = problems(&read);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("with another role"), "{refused:?}");

    let text = "\
groupId: 120363000000000001@g.us
name: One
---
groupId: 120363000000000001@g.us
---
name: New
---
name: New
---
name: New
id: another
---
name: New
session: second
";
    let read = self::read(text, &[]);
    let refused = problems(&read);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0].starts_with("groups.yaml:4: groupId names the group of"),
        "{refused:?}"
    );
    assert!(
        refused[1].starts_with("groups.yaml:8: name is that of"),
        "{refused:?}"
    );
}

#[test]
fn more_people_than_a_group_may_have_are_refused() {
    let mut members = "phone\n".to_owned();
    for n in 0..1_025 {
        writeln!(members, "49170{n:07}").unwrap();
    }
    let text = "name: One\nparticipants: {file: members.csv, column: phone}\n";
    let read = read(text, &[("members.csv", members.as_bytes())]);
    assert_eq!(
        problems(&read),
        ["groups.yaml:2: participants must have at most 1024 entries, got 1025"]
    );
}

#[test]
fn a_new_group_has_the_same_command_id_each_time_and_another_one_has_not() {
    let id = |text: &str| {
        let read = read(text, &[]);
        super::existing::command_id(&read.groups[0])
    };
    let new = id("name: New\n");
    assert_eq!(id("name: New\ndescription: changed\n"), new);
    assert_ne!(id("name: Other\n"), new);
    assert_ne!(id("name: New\nid: two\n"), new);
    assert_ne!(id("name: New\nsession: second\n"), new);
    let known = "groupId: 120363000000000001@g.us\nname: New\n";
    assert_ne!(id(known), id(known));
}
