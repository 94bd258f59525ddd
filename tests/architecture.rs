//! Checks which module may name which, and which third-party crate lives where.

#![expect(clippy::unwrap_used, reason = "a test helper may stop the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

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
