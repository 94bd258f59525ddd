//! Texts of errors and panics, for logs and answers.

use std::any::Any;
use std::error::Error;

/// An error and its causes in one sentence; causes that the text already contains are not repeated.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

/// The text that a panic was raised with.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::fmt::Error);

    #[test]
    fn a_cause_that_the_text_contains_is_not_repeated() {
        let cause = std::fmt::Error.to_string();
        let text = with_causes(&Outer("writing failed", std::fmt::Error));
        assert_eq!(text, format!("writing failed: {cause}"));
        let told: &'static str = text.leak();
        assert_eq!(with_causes(&Outer(told, std::fmt::Error)), told);
    }

    #[test]
    fn the_text_of_a_panic_is_a_literal_or_formatted() {
        assert_eq!(panic_text(&"literal"), "literal");
        assert_eq!(panic_text(&"formatted".to_owned()), "formatted");
        assert_eq!(panic_text(&7), "no text");
    }
}
