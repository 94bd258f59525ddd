//! Classifies the answer to an attempt: what it means for the delivery and for the endpoint.

use std::time::Duration;

use crate::outbound::{Answer, Failure, FailureKind};

/// What to do with a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The endpoint accepted it.
    Delivered,
    /// Try again later.
    Retry {
        /// The endpoint's `Retry-After`.
        after: Option<Duration>,
        /// The failure concerns the endpoint as a whole, not this delivery alone.
        endpoint_fails: bool,
    },
    /// The endpoint would refuse the same bytes again: a dead letter.
    Refused,
    /// The endpoint wants no more events (410): it is disabled.
    Gone,
    /// The failure is on our side (egress): it counts neither as an attempt nor against the endpoint.
    OwnFault,
}

impl Verdict {
    /// The name in the delivery log and in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry { .. } => "failed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::OwnFault => "own-fault",
        }
    }
}

/// Only 2xx is success; a redirect means a wrong URL (Standard Webhooks, section "Response"). The status
/// decides, even if the body after it is incomplete.
pub(super) fn classify(answer: &Result<Answer, Failure>) -> Verdict {
    match answer {
        Ok(answer) => classify_status(answer.status, answer.retry_after),
        Err(failure) => match failure.begun {
            Some(begun) => classify_status(begun.status, begun.retry_after),
            None => classify_failure(failure.kind),
        },
    }
}

const fn classify_status(status: u16, after: Option<Duration>) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        410 => Verdict::Gone,
        // Too large, or an unsupported media type, method or version: a retry does not help.
        413 | 414 | 415 | 431 | 501 | 505 => Verdict::Refused,
        // The endpoint as a whole is overloaded or broken.
        408 | 425 | 429 | 500..=599 => Verdict::Retry {
            after,
            endpoint_fails: true,
        },
        // Not found, not authorised, redirected …: may be fixed, and other deliveries may succeed.
        _ => Verdict::Retry {
            after,
            endpoint_fails: false,
        },
    }
}

const fn classify_failure(kind: FailureKind) -> Verdict {
    match kind {
        FailureKind::OwnEgress => Verdict::OwnFault,
        FailureKind::Unusable => Verdict::Refused,
        FailureKind::AddressRefused
        | FailureKind::UnknownHost
        | FailureKind::Connect
        | FailureKind::Tls
        | FailureKind::TimedOut { .. }
        | FailureKind::Broken => Verdict::Retry {
            after: None,
            endpoint_fails: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_verdict() {
        let fails = |endpoint_fails| Verdict::Retry {
            after: None,
            endpoint_fails,
        };
        for (statuses, verdict) in [
            (vec![200, 201, 202, 204, 299], Verdict::Delivered),
            (vec![410], Verdict::Gone),
            (vec![413, 414, 415, 431, 501, 505], Verdict::Refused),
            (vec![408, 425, 429, 500, 502, 503, 504, 599], fails(true)),
            (
                vec![301, 302, 304, 400, 401, 403, 404, 409, 422],
                fails(false),
            ),
        ] {
            for status in statuses {
                assert_eq!(classify_status(status, None), verdict, "{status}");
            }
        }
    }

    #[test]
    fn a_fault_of_our_own_is_charged_to_nobody() {
        assert_eq!(classify_failure(FailureKind::OwnEgress), Verdict::OwnFault);
        assert_eq!(
            classify_failure(FailureKind::TimedOut { sent: false }),
            classify_failure(FailureKind::Connect)
        );
    }
}
