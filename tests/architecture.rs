//! Checks which module may name which, that no two need each other, which third-party crate lives where, and
//! that `make check` knows the tests of each module.

#![expect(clippy::unwrap_used, reason = "a test helper may stop the test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "architecture/circles.rs"]
mod circles;

/// (module, modules it may name). A module not listed here fails the test.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("clock", &[]),
    ("schemas", &["contract", "gateway"]),
    ("config", &["contract"]),
    ("observability", &["config", "clock", "outbound"]),
    ("lifecycle", &["config", "clock"]),
    ("outbound", &["config", "clock"]),
    ("store", &["contract", "config", "clock", "observability"]),
    (
        "amqp",
        &["contract", "config", "clock", "observability", "lifecycle"],
    ),
    (
        "engines",
        &[
            "contract",
            "config",
            "clock",
            "observability",
            "outbound",
            "store",
        ],
    ),
    (
        "executor",
        &[
            "contract",
            "config",
            "clock",
            "observability",
            "lifecycle",
            "store",
            "engines",
        ],
    ),
    ("installation", &["store", "amqp"]),
    (
        "fanout",
        &["contract", "clock", "observability", "store", "amqp"],
    ),
    (
        "reshard",
        &["contract", "clock", "store", "amqp", "executor"],
    ),
    (
        "webhooks",
        &[
            "contract",
            "config",
            "clock",
            "observability",
            "lifecycle",
            "outbound",
            "store",
            "amqp",
            "fanout",
        ],
    ),
    (
        "worker",
        &[
            "contract",
            "config",
            "clock",
            "observability",
            "lifecycle",
            "store",
            "amqp",
            "fanout",
            "engines",
            "executor",
        ],
    ),
    (
        "gateway",
        &[
            "contract",
            "config",
            "observability",
            "lifecycle",
            "store",
            "amqp",
            "executor",
        ],
    ),
    (
        "ops",
        &[
            "contract",
            "config",
            "clock",
            "observability",
            "lifecycle",
            "store",
            "amqp",
            "engines",
        ],
    ),
];

/// (third-party path prefix, the only modules that may write it).
const FENCES: &[(&str, &[&str])] = &[
    ("lapin::", &["amqp"]),
    ("sqlx::", &["store"]),
    ("axum::", &["gateway", "ops"]),
    ("hyper_util::", &["outbound", "gateway"]),
    ("tower_http::", &["gateway"]),
    ("utoipa", &["gateway"]),
    ("reqwest::", &["outbound"]),
    ("hickory_resolver::", &["outbound"]),
    ("tokio_tungstenite::", &["engines"]),
    ("clap::", &["cli"]),
    ("backoff::", &["executor"]),
    ("opentelemetry", &["observability"]),
    ("governor::", &["executor", "webhooks"]),
    ("metrics_exporter_prometheus::", &["observability"]),
    ("std::env::", &["config"]),
    ("super::super::", &[]),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
}

fn violations(src: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut files = Vec::new();
    rust_files(src, &mut files);
    for file in files {
        let relative = file.strip_prefix(src).unwrap();
        let owner = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let owner = owner.trim_end_matches(".rs");
        if matches!(owner, "main" | "lib" | "app" | "cli") {
            continue;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == owner) else {
            found.push(format!(
                "{}: module `{owner}` is not in MAY_NAME",
                relative.display()
            ));
            continue;
        };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let here = format!("{}:{}", relative.display(), number + 1);
            for tail in code.split("crate::").skip(1) {
                let named: String = tail
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if named != owner && !allowed.contains(&named.as_str()) {
                    found.push(format!("{here}: `{owner}` may not name `{named}`"));
                }
            }
            for (prefix, owners) in FENCES {
                // A text that begins so names a log's target.
                let named = code.replace(&format!("\"{prefix}"), "").contains(prefix);
                if named && !owners.contains(&owner) {
                    found.push(format!("{here}: `{prefix}` belongs to {owners:?}"));
                }
            }
        }
    }
    found
}

#[test]
fn modules_only_name_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found = violations(&src);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The synchronisation of groups serves any engine that gets notifications and has to compare. Its
/// tests may use an engine's parser.
#[test]
fn the_synchronisation_of_groups_names_no_engine() {
    let sync = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engines/sync");
    let mut files = Vec::new();
    rust_files(&sync, &mut files);
    assert!(!files.is_empty());
    let mut found = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&sync).unwrap();
        if relative.starts_with("tests") || relative == Path::new("tests.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap().to_lowercase();
            if code.contains("waha") || code.contains("sandbox") {
                found.push(format!("{}:{}", relative.display(), number + 1));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// Tables describe themselves to the write batcher; what is below them must not name them.
#[test]
fn the_write_batcher_and_the_database_name_no_table() {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = Vec::new();
    for (folder, allowed) in [
        ("batch", &["Error", "db", "outage"][..]),
        ("db", &["Error", "outage"][..]),
    ] {
        let mut files = Vec::new();
        rust_files(&store.join(folder), &mut files);
        assert!(!files.is_empty());
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let text = if file.ends_with("mod.rs") {
                text.replace("super::", "crate::store::")
            } else {
                text
            };
            for tail in text.split("use crate::store::").skip(1) {
                let name = tail.split([':', ';']).next().unwrap();
                if !allowed.contains(&name) {
                    found.push(format!("{}: {name}", file.display()));
                }
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The commands that `make check` would run if this file had changed.
fn plan(path: &str) -> Vec<String> {
    let output = Command::new(repository("tests/check.sh"))
        .args(["--plan", path])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}: {error}");
    let plan = String::from_utf8(output.stdout).unwrap();
    plan.lines().map(str::to_owned).collect()
}

/// What follows `--test` in the commands of a plan that run tests.
fn tests_of(path: &str) -> Vec<String> {
    let plan = plan(path);
    // Formatting, clippy, the build, and the unit tests.
    let commands = plan.iter().skip(4);
    let tests = commands.filter_map(|command| command.split_once("--test "));
    tests.map(|(_, test)| test.to_owned()).collect()
}

#[test]
fn each_module_has_tests_that_make_check_runs() {
    let mut modules = Vec::new();
    for entry in fs::read_dir(repository("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_folder = entry.file_type().unwrap().is_dir();
        modules.push(format!(
            "src/{name}{}",
            if is_folder { "/any.rs" } else { "" }
        ));
    }
    assert!(modules.len() > 15, "{modules:?}");
    for module in modules {
        let tests = tests_of(&module);
        assert!(tests.contains(&"architecture".to_owned()), "{module}");
        assert!(
            tests.len() > 1,
            "tests/check.table has no test for {module}"
        );
    }
}

#[test]
fn what_make_check_runs_exists() {
    let table = fs::read_to_string(repository("tests/check.table")).unwrap();
    let lines = table.lines().filter(|line| !line.is_empty());
    let mut tried = 0;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (files, binary) = (words.next().unwrap(), words.next().unwrap());
        let (folder, begin) = files.rsplit_once('/').unwrap_or(("", files));
        let begin = begin.split('*').next().unwrap();
        let mut entries = fs::read_dir(repository(folder)).unwrap();
        let is_there = entries.any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str().unwrap().starts_with(begin)
        });
        assert!(is_there, "no file {files}");
        let folder = match binary {
            "lib" => "src".to_owned(),
            _ => format!("tests/{binary}"),
        };
        let alone = [format!("{folder}.rs"), format!("tests/support/{folder}.rs")];
        let folders = [folder.clone(), format!("tests/support/{folder}")];
        let exists = |paths: &[String]| paths.iter().any(|path| repository(path).exists());
        assert!(
            exists(&alone) || exists(&folders),
            "no test binary {binary}"
        );
        for module in words {
            let module = format!("{folder}/{}", module.replace("::", "/"));
            let file = format!("{module}.rs");
            assert!(
                exists(&[file, module]),
                "{binary} has no module for: {line}"
            );
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn make_check_runs_the_tests_of_what_changed() {
    let worker = tests_of("src/worker/quota.rs");
    assert_eq!(
        worker,
        [
            "architecture",
            "broker -- consumer:: repeats:: resting:: shards:: stopping::"
        ]
    );
    // A test is its own.
    assert_eq!(
        tests_of("tests/broker/waha/kills.rs"),
        ["broker -- waha::kills::"]
    );
    // A file without tests belongs to those beside it.
    assert_eq!(
        tests_of("tests/broker/deeds/table.rs"),
        ["broker -- deeds::"]
    );
    assert_eq!(tests_of("tests/docs.rs"), ["docs"]);
    // All tests of a binary are more than some of them.
    assert!(tests_of("deploy/RUNBOOK.md").contains(&"docs".to_owned()));
    assert_eq!(tests_of("LICENSE-MIT"), Vec::<String>::new());
    let plan = plan("src/worker/quota.rs");
    assert_eq!(plan[0], "cargo fmt --all --check");
    for target in ["--lib", "--test broker"] {
        assert!(plan[1].starts_with("cargo clippy ") && plan[1].contains(target));
        assert!(plan[2].starts_with("cargo test --no-run ") && plan[2].contains(target));
    }
    assert!(plan[3].contains(" --lib "), "{}", plan[3]);
}
