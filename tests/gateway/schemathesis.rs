//! The running gateway against its own description, by Schemathesis: requests made up from the
//! document, right ones and wrong ones; no answer may be a server error, of an undocumented status,
//! or break its schema.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::scene::Scene;

const KEY: &str = "the-key-of-the-tester";

/// It makes up more than a thousand requests.
const PATIENCE: Duration = Duration::from_mins(6);

#[tokio::test]
async fn the_gateway_does_what_its_description_says() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/schemathesis");
    assert!(
        program.exists(),
        "Schemathesis is missing: run `make test`, which installs it"
    );
    // It looks too whether a key is asked for.
    let scene = Scene::with(|options| {
        options
            .set("gateway.keys.tester.key", KEY)
            .set("gateway.keys.tester.sessions", "*")
            .set("gateway.keys.tester.access", "write")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let running = Command::new(program)
        .args(["run", "--url"])
        .arg(scene.url(""))
        .args(["--header", &format!("X-Api-Key: {KEY}")])
        .args(["--max-examples", "8", "--seed", "7", "--no-color"])
        .args(["--request-timeout", "20", "--generation-database", "none"])
        // A stream has no end to wait for; tests/gateway/events.rs listens to it. No schema can say which
        // bytes are a picture; tests/gateway/as_in_waha.rs sends some.
        .args(["--exclude-path-regex", "/(events|picture)$"])
        .arg(scene.url("/openapi.json"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, running).await;
    let output = output.expect("Schemathesis does not end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
