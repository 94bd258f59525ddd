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
