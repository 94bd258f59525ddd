//! The manifests of Kubernetes and the Compose file; `manifests.py` does the work.

use super::tools::{python, repository, run};

#[test]
fn every_overlay_builds_and_each_resource_is_as_it_should_be() {
    let said = run(python()
        .arg(repository("tests/deploy/manifests.py"))
        .arg(env!("CARGO_BIN_EXE_groupmq")));
    println!("{said}");
    assert!(said.contains("resources of 2 overlays"), "{said}");
}
