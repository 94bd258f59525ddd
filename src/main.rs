//! The `groupmq` program: parse, dispatch, turn the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    groupmq::cli::main()
}
