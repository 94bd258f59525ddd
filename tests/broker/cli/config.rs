//! `config`, `healthcheck`, `completions` and `--help`.

use super::{alone, run};
use crate::scene::Scene;

#[tokio::test]
async fn config_is_checked_and_printed_without_secrets() {
    let right = run(&alone(), &["config", "check"]).await;
    assert_eq!(right.code, 0, "{right:?}");
    let printed = run(&alone(), &["config", "print"]).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(!printed.out.contains("hunter2"), "{printed:?}");
    assert!(printed.out.contains("guest:***@127.0.0.1:1"), "{printed:?}");

    let wrong = alone().set("amqp.prefetch", "hunter2");
    let wrong = wrong.set("amqp.prefech", "1");
    for arguments in [&["config", "check"][..], &["run"], &["doctor"]] {
        let ran = run(&wrong, arguments).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("amqp.prefetch"), "{ran:?}");
        assert!(ran.err.contains("amqp.prefech"), "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{ran:?}");
    }
}

/// `config check` with these variables besides.
fn check(variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = alone().command(&["config", "check"]);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn what_kubernetes_sets_for_services_is_ignored_and_other_variables_are_named() {
    let links = [
        ("GROUPMQ_SERVICE_HOST", "10.96.0.7"),
        ("GROUPMQ_SERVICE_PORT", "9464"),
        ("GROUPMQ_SERVICE_PORT_HTTP", "9464"),
        ("GROUPMQ_PORT", "tcp://10.96.0.7:9464"),
        ("GROUPMQ_PORT_9464_TCP", "tcp://10.96.0.7:9464"),
        ("GROUPMQ_PORT_9464_TCP_ADDR", "10.96.0.7"),
        ("GROUPMQ_PORT_9464_TCP_PORT", "9464"),
        ("GROUPMQ_PORT_9464_TCP_PROTO", "tcp"),
        ("GROUPMQ_GATEWAY_SERVICE_HOST", "10.96.0.8"),
        ("GROUPMQ_GATEWAY_PORT", "tcp://10.96.0.8:8080"),
        ("GROUPMQ_GATEWAY_PORT_8080_TCP", "tcp://10.96.0.8:8080"),
    ];
    assert_eq!(check(&links), (Some(0), String::new()));
    let (code, said) = check(&[("GROUPMQ_AMQP_PREFETCH", "7"), ("GROUPMQ_PORT", "7")]);
    assert_eq!(code, Some(2), "{said}");
    for variable in ["GROUPMQ_AMQP_PREFETCH", "GROUPMQ_PORT"] {
        assert!(
            said.contains(&format!("(from the environment: {variable})")),
            "{said}"
        );
    }
}

#[test]
fn a_password_that_is_not_percent_encoded_is_told_and_not_shown() {
    for password in ["hun#ter2", "hun?ter2", "hun/ter2", "hun@ter2", "7#hunter2"] {
        let url = format!("amqp://shop:{password}@127.0.0.1:1/%2f");
        let (code, said) = check(&[("GROUPMQ_AMQP__URL", &url)]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("amqp.url: "), "{said}");
        assert!(said.contains("percent-encode the password"), "{said}");
        assert!(said.contains("GROUPMQ_AMQP__URL"), "{said}");
        assert!(!said.contains("ter2"), "{said}");
    }
}

#[test]
fn a_session_that_the_environment_names_keeps_its_case() {
    let session = ("GROUPMQ_ENGINE__SANDBOX__SESSIONS__Shop1", "15550000009");
    let mut command = alone().command(&["config", "print"]);
    let output = command.envs([session]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("Shop1 = \"15550000009\""), "{printed}");
    assert!(!printed.contains("shop1"), "{printed}");
}

#[tokio::test]
async fn the_file_may_be_named_by_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groupmq.toml");
    std::fs::write(&file, "[amqp]\nprefetch = 7\n").unwrap();
    let named = alone().set("config", file.to_str().unwrap());
    let printed = run(&named, &["config", "print"]).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(printed.out.contains("prefetch = 7"), "{printed:?}");
}

#[tokio::test]
async fn healthcheck_asks_the_worker_beside_it() {
    let scene = Scene::shared().await;
    let address = scene.worker.health().to_string();
    let beside = scene.options.clone().set("ops.listen", address);
    let ready = run(&beside, &["healthcheck"]).await;
    assert_eq!(ready.code, 0, "{ready:?}");
    assert!(ready.out.contains("\"ready\":true"), "{ready:?}");
    let nobody = scene.options.clone().set("ops.listen", "127.0.0.1:1");
    let unready = run(&nobody, &["healthcheck"]).await;
    assert_eq!(unready.code, 1, "{unready:?}");
    assert!(unready.err.contains("ops.listen"), "{unready:?}");
}

#[tokio::test]
async fn help_and_completions_need_no_configuration() {
    let broken = alone().set("amqp.prefetch", "x");
    let help = run(&broken, &["--help"]).await;
    assert_eq!(help.code, 0, "{help:?}");
    insta::assert_snapshot!("help", help.out);
    let send = run(&broken, &["send", "--help"]).await;
    insta::assert_snapshot!("help-send", send.out);
    let bash = run(&broken, &["completions", "bash"]).await;
    assert_eq!(bash.code, 0, "{bash:?}");
    assert!(bash.out.contains("complete -F _groupmq"), "{bash:?}");
}
