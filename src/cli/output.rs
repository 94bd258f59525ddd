//! Output: results go to stdout, everything else to stderr.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::observability::describe::with_causes;
use crate::observability::log;

use super::exit::Failure;

/// Prints a line; a closed pipe is not an error.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Other(error.into())),
        _ => Ok(()),
    }
}

/// Prints a line about the work, which is no result.
pub(super) fn note(text: &str) {
    // A failure cannot be reported anywhere.
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// The beginning of an untrusted text, without control characters, which must not reach the terminal.
pub(super) fn printable(text: &str, most: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(most)
        .collect()
}

/// Prints a failure with its causes.
pub(super) fn print_error(failure: &Failure) {
    log::last_words(&format!("groupmq: {}", with_causes(failure)));
}

/// Asks for confirmation. Anything but yes means no; so does stdin that is not a terminal.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(io::stderr().lock(), "{question} [y/N] ").ok();
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::Other(error.into()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
