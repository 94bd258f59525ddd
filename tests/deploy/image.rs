//! The image: its binary, which `deploy/build.sh` makes as the Dockerfile does, and the Dockerfile.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker};

use super::tools::{read, repository, run};

/// The binary, which `make test` builds before the tests.
fn binary() -> PathBuf {
    let path = run(Command::new(repository("deploy/build.sh")).arg("--path"));
    let path = PathBuf::from(path.trim());
    assert!(
        path.exists(),
        "{} is missing: run `make test`, or deploy/build.sh, which builds it",
        path.display()
    );
    path
}

#[test]
fn the_image_holds_what_the_build_script_makes_and_is_not_root() {
    let dockerfile = read("deploy/Dockerfile");
    for line in [
        "    install -D \"$(deploy/build.sh)\" /image/groupmq",
        "COPY --from=build /image/groupmq /groupmq",
        "USER 65532:65532",
        "ENTRYPOINT [\"/groupmq\"]",
    ] {
        assert!(dockerfile.lines().any(|it| it == line), "{line}");
    }
    assert!(dockerfile.contains("CMD [\"/groupmq\", \"healthcheck\"]"));
    // The manifests run it as the same user.
    let deployment = read("deploy/k8s/base/deployment.yaml");
    assert!(deployment.contains("runAsUser: 65532"));
    let version = format!("groupmq:{}", env!("CARGO_PKG_VERSION"));
    for file in [
        "deploy/Dockerfile",
        "deploy/compose.yaml",
        "deploy/README.md",
    ] {
        assert!(
            read(file).contains(&version),
            "{file} names another version"
        );
    }
    for overlay in ["development", "production"] {
        let path = format!("deploy/k8s/overlays/{overlay}/kustomization.yaml");
        let tag = format!("newTag: {}", env!("CARGO_PKG_VERSION"));
        assert!(read(&path).contains(&tag), "{path} names another version");
    }
}

#[test]
fn the_binary_needs_no_library_and_says_its_version() {
    let binary = binary();
    let headers = run(Command::new("readelf")
        .arg("--program-headers")
        .arg(&binary));
    assert!(!headers.contains("INTERP"), "{headers}");
    let needed = run(Command::new("readelf").arg("--dynamic").arg(&binary));
    assert!(!needed.contains("NEEDED"), "{needed}");
    let version = run(Command::new(&binary).arg("--version").env_clear());
    assert_eq!(
        version.trim(),
        concat!("groupmq ", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn the_binary_starts_with_little_work_and_idles_in_little_memory() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    // By name, which the binary has to look up without the system's libraries.
    let url = broker.url().replace("127.0.0.1", "localhost");
    let options = Options::new(binary(), &url, &prefix);
    run(&mut options.command(&["topology", "apply"]));
    let mut worker = Worker::spawn(&options).unwrap();
    let ready = worker.until_ready(Duration::from_mins(1)).await.unwrap();
    let used = worker.processor_time().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let memory = worker.status("VmRSS").unwrap();
    assert_eq!(worker.stop().await.unwrap(), 0);
    println!("consumes after {ready:?}, for which it computed {used:?}; idles in {memory} KiB");
    // How long it takes is this machine's business; how much there is to do is ours.
    assert!(used < Duration::from_millis(500), "{used:?}");
    assert!(memory * 1024 < 25_000_000, "{memory} KiB");
}
