//! What receivers use to check who sent something, in their real packages: the official verifiers of
//! Standard Webhooks for Node and Python, and a check of WAHA's signature.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use groupmq_test_support::receiver::Delivered;
use serde_json::{Value, json};

use super::scene::Scene;

#[tokio::test]
async fn official_verifiers_accept_what_is_signed_before_during_and_after_a_rotation() {
    let mut scene = Scene::shared().await;
    let more = json!({"hmac": {"key": "my-secret-key"}});
    scene.endpoint("one", "/one", more).await;
    let first = secrets(&scene).await.remove(0);
    let before = delivered(&mut scene, 1).await;

    let rotated = groupmq(
        &scene,
        &["webhooks", "rotate", "one", "--keep", "5s", "--json"],
    )
    .await;
    let second = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    // Until the process has read it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let during = delivered(&mut scene, 2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = delivered(&mut scene, 3).await;

    let checks = [
        (&before, &first, "ok"),
        (&before, &second, "bad"),
        (&during, &first, "ok"),
        (&during, &second, "ok"),
        (&after, &first, "bad"),
        (&after, &second, "ok"),
    ];
    let lines: Vec<_> = checks
        .iter()
        .map(|(delivered, secret, _)| line("secret", secret, delivered))
        .collect();
    let wanted: Vec<_> = checks.iter().map(|(_, _, wanted)| *wanted).collect();
    assert_eq!(
        answers("node", &["verify-webhooks.mjs"], &lines),
        wanted,
        "Node"
    );
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let python = python.to_str().unwrap();
    assert_eq!(
        answers(python, &["verify_webhooks.py"], &lines),
        wanted,
        "Python"
    );

    let lines: Vec<_> = [
        ("my-secret-key", &before),
        ("my-secret-key", &after),
        ("other", &after),
    ]
    .map(|(key, delivered)| line("key", key, delivered))
    .into();
    let waha = answers(python, &["verify_webhooks.py", "waha"], &lines);
    assert_eq!(waha, ["ok", "ok", "bad"], "WAHA's way");
}

/// Announces an event and waits until it is there, the how manieth it is.
async fn delivered(scene: &mut Scene, number: usize) -> Delivered {
    scene
        .announcer
        .announce("default", "group.join", 1)
        .await
        .unwrap();
    scene
        .receiver
        .gets("/one", number)
        .await
        .unwrap()
        .remove(number - 1)
}

async fn secrets(scene: &Scene) -> Vec<String> {
    let shown = groupmq(scene, &["webhooks", "show", "one", "--secrets", "--json"]).await;
    let all = shown["secrets"].as_array().unwrap().iter();
    all.map(|it| it.as_str().or(it["secret"].as_str()).unwrap().to_owned())
        .collect()
}

/// Runs a command of the binary that prints JSON.
async fn groupmq(scene: &Scene, arguments: &[&str]) -> Value {
    let mut command = scene.options.command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A delivery as the verifiers read it, with the secret to check it with.
fn line(with: &str, secret: &str, delivered: &Delivered) -> String {
    let body = String::from_utf8(delivered.body.clone()).unwrap();
    json!({ with: secret, "headers": delivered.headers, "body": body }).to_string()
}

fn answers(program: &str, arguments: &[&str], lines: &[String]) -> Vec<String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let mut verifier = Command::new(program)
        .current_dir(tools)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = verifier.stdin.take().unwrap();
    stdin
        .write_all((lines.join("\n") + "\n").as_bytes())
        .unwrap();
    drop(stdin);
    let output = verifier.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}
