//! The programs that check what is in `deploy/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A path of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Python as the set-up installs it.
pub(crate) fn python() -> Command {
    let python = repository("target/venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `make test`, which installs it",
        python.display()
    );
    let mut command = Command::new(python);
    // The set-up puts tools there that the system does not have.
    let own = repository("target/venv/bin");
    let system = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&system).chain([own]);
    command.env("PATH", std::env::join_paths(path).unwrap());
    command
}

/// Runs a program, which must succeed; what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs it"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}");
    said
}
