//! The files in `schemas/` are what the contract says they are.

use std::fs;
use std::process::Command;

use groupmq::schemas::{self, Difference};

use super::example;

#[test]
fn the_documents_on_disk_are_current() {
    let differences = schemas::check(&example::root().join("schemas")).unwrap();
    let list: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "run `groupmq schemas`:\n{}",
        list.join("\n")
    );
}

#[test]
fn what_is_missing_changed_or_left_over_is_named() {
    let root = tempfile::tempdir().unwrap();
    let written = schemas::write(root.path()).unwrap();
    assert!(
        written
            .iter()
            .all(|change| matches!(change, Difference::Missing(_)))
    );
    assert_eq!(schemas::check(root.path()).unwrap(), []);

    let file = |name: &str| root.path().join(name);
    fs::remove_file(file("reply.json")).unwrap();
    fs::write(file("asyncapi.yaml"), "asyncapi: 2.0.0\n").unwrap();
    fs::write(file("commands/Shout.json"), "{}\n").unwrap();
    let found = [
        Difference::Missing("reply.json".into()),
        Difference::Different("asyncapi.yaml".into()),
        Difference::LeftOver("commands/Shout.json".into()),
    ];
    assert_eq!(schemas::check(root.path()).unwrap(), found);
    assert_eq!(schemas::write(root.path()).unwrap(), found);
    // Whose a file is that nobody knows is for a person to say.
    let [_, _, left_over] = found;
    assert_eq!(schemas::check(root.path()).unwrap(), [left_over]);
}

#[test]
fn the_official_parser_finds_nothing_wrong_with_the_asyncapi_document() {
    let tools = example::root().join("tests/tools");
    assert!(
        tools.join("node_modules/@asyncapi/parser").is_dir(),
        "the AsyncAPI parser is not installed; run `make test`, or `npm ci` in tests/tools"
    );
    let check = |file: &std::path::Path| {
        let output = Command::new("node")
            .arg(tools.join("check-asyncapi.mjs"))
            .arg(file)
            .output();
        let output = output.unwrap_or_else(|error| panic!("node cannot be run: {error}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let document = example::root().join("schemas/asyncapi.yaml");
    let (passed, said) = check(&document);
    assert!(passed, "{said}");

    // A parser that finds nothing wrong with anything would be no proof.
    let broken = fs::read_to_string(&document).unwrap();
    let broken = broken
        .replacen("amq.rabbitmq.reply-to", "\n", 1)
        .replacen("receive", "listen", 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asyncapi.yaml");
    fs::write(&file, broken).unwrap();
    let (passed, said) = check(&file);
    assert!(!passed, "{said}");
}
