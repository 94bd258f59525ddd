//! The workflows of GitHub: what they run exists here, with pinned actions and few permissions; and the steps of a
//! release, without a tag.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::tools::{read, repository, run};

/// The workflows, by name of file.
fn workflows() -> BTreeMap<String, String> {
    let folder = ".github/workflows";
    let entries = repository(folder).read_dir().unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| (name.clone(), read(&format!("{folder}/{name}"))))
        .collect()
}

/// What stands after a key in a list or a mapping, wherever that is.
fn values<'a>(workflow: &'a str, key: &str) -> Vec<&'a str> {
    let lines = workflow.lines().map(str::trim_start);
    let lines = lines.map(|line| line.strip_prefix("- ").unwrap_or(line));
    let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    values.collect()
}

#[test]
fn each_action_is_pinned_to_a_commit_and_names_its_version() {
    let mut tried = 0;
    for (file, workflow) in workflows() {
        for action in values(&workflow, "uses") {
            tried += 1;
            if let Some(own) = action.strip_prefix("./") {
                assert!(repository(own).exists(), "{file}: {action}");
                continue;
            }
            let (_, pin) = action.split_once('@').unwrap();
            let (commit, version) = pin.split_once(" # v").unwrap_or((pin, ""));
            let is_commit = commit.len() == 40 && commit.chars().all(|it| it.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{file}: {action}");
        }
    }
    assert!(tried > 5, "{tried}");
}

#[test]
fn workflows_read_the_repository_and_only_the_release_writes() {
    for (file, workflow) in workflows() {
        assert!(
            workflow.contains("\npermissions:\n  contents: read\n"),
            "{file}"
        );
        let lines = workflow.lines().map(str::trim);
        let rights: Vec<_> = lines
            .filter_map(|line| line.split(" #").next()?.strip_suffix(": write"))
            .collect();
        let expected: &[&str] = match file.as_str() {
            "release.yml" => &["contents", "packages"],
            _ => &[],
        };
        assert_eq!(rights, expected, "{file}");
        assert!(!workflow.contains("write-all"), "{file}");
        let checkouts = workflow.matches("actions/checkout@").count();
        let kept = workflow.matches("persist-credentials: false").count();
        assert_eq!(checkouts, kept, "{file} leaves a token on the disk");
    }
}

#[test]
fn workflows_run_the_commands_of_the_documents() {
    let workflows = workflows();
    let runs = |file: &str| values(&workflows[file], "run");
    // README's two commands, in its order.
    let readme = read("README.md");
    let commands = readme.split("## Two commands").nth(1).unwrap();
    let commands = commands.split("```").nth(1).unwrap();
    let commands: Vec<_> = commands
        .lines()
        .filter(|line| line.starts_with("make "))
        .map(|line| line.split('#').next().unwrap().trim())
        .collect();
    assert_eq!(commands, ["make demo", "make test"]);
    let ci = runs("ci.yml");
    let run = ci.iter().filter(|run| commands.contains(*run));
    assert_eq!(run.copied().collect::<Vec<_>>(), commands);
    assert!(runs("nightly.yml").contains(&"make torture"));

    let makefile = read("Makefile");
    let mut tried = 0;
    for (file, workflow) in &workflows {
        for command in values(workflow, "run") {
            let words = command.split(|it: char| !(it.is_alphanumeric() || "/._-".contains(it)));
            for script in
                words.filter(|word| Path::new(word).extension().is_some_and(|it| it == "sh"))
            {
                assert!(repository(script).exists(), "{file}: {command}");
                tried += 1;
            }
            if let Some(target) = command.strip_prefix("make ") {
                let rule = format!("\n{target}: ");
                assert!(makefile.contains(&rule), "{file}: {command}");
                tried += 1;
            }
        }
    }
    assert!(tried > 6, "{tried}");
}

/// `deploy/release.sh`.
fn release(arguments: &[&str]) -> Command {
    let mut command = Command::new(repository("deploy/release.sh"));
    command.args(arguments);
    command
}

#[test]
fn a_release_is_an_archive_that_its_checksum_confirms_and_whose_binary_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    // Without what only a debugger reads, as in a release: it is most of the file.
    let stripped = tempfile::tempdir().unwrap();
    let binary = stripped.path().join("groupmq");
    run(Command::new("strip")
        .arg("-o")
        .arg(&binary)
        .arg(env!("CARGO_BIN_EXE_groupmq")));
    run(&mut release(&["pack", binary.to_str().unwrap(), path]));

    let files = dir.path().read_dir().unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let (sums, archives): (Vec<_>, Vec<_>) = files.partition(|file| file.ends_with(".sha256"));
    let [archive] = archives.as_slice() else {
        panic!("{archives:?}");
    };
    let begins = concat!("groupmq-", env!("CARGO_PKG_VERSION"), "-");
    assert!(archive.starts_with(begins), "{archive}");
    assert_eq!(sums, [format!("{archive}.sha256")]);
    let in_dir = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(dir.path());
        command
    };
    run(in_dir("sha256sum").args(["--check", "--strict", &sums[0]]));

    run(in_dir("tar").args(["-xzf", archive]));
    let folder = dir.path().join(archive.strip_suffix(".tar.gz").unwrap());
    let version = run(Command::new(folder.join("groupmq")).arg("--version"));
    assert_eq!(
        version.trim(),
        concat!("groupmq ", env!("CARGO_PKG_VERSION"))
    );
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
        assert!(folder.join(file).exists(), "{file}");
    }
}

#[test]
fn a_release_is_of_the_version_that_was_built_and_described() {
    let dir = tempfile::tempdir().unwrap();
    // Any other program than groupmq.
    let path = dir.path().to_str().unwrap();
    assert!(
        !release(&["pack", "/bin/true", path])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);

    let output = release(&["notes", "v99.0.0"]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(env!("CARGO_PKG_VERSION")), "{error}");

    // The section of a changelog, with what stands around it. The script reads the files beside it.
    std::fs::create_dir(dir.path().join("deploy")).unwrap();
    let script = dir.path().join("deploy/release.sh");
    std::fs::copy(repository("deploy/release.sh"), &script).unwrap();
    std::fs::copy(repository("Cargo.toml"), dir.path().join("Cargo.toml")).unwrap();
    let this = env!("CARGO_PKG_VERSION");
    let tag = format!("v{this}");
    for (changelog, notes) in [
        (
            format!(
                "# Log\n\n## [Unreleased]\n\n- c\n\n## [{this}] - 2026-01-01\n\n- b\n\n## [0.0.1]\n\n- a\n"
            ),
            Some("- b"),
        ),
        (format!("## [{this}]\n\n## [0.0.1]\n\n- a\n"), None),
        ("## [Unreleased]\n\n- c\n".to_owned(), None),
    ] {
        std::fs::write(dir.path().join("CHANGELOG.md"), &changelog).unwrap();
        let output = Command::new(&script)
            .args(["notes", &tag])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let said = output.status.success().then_some(said);
        assert_eq!(said.as_deref(), notes, "{changelog}");
    }
}
