//! The answer to a request, read up to a size.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::Response;

/// The longest `Retry-After` that is returned; longer ones are cut to this, so that callers' sums do not
/// overflow.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(366 * 24);

/// The maximum length of a content type; longer ones are cut.
const CONTENT_TYPE_MAX: usize = 200;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status. Redirects are not followed, so they are answers too.
    pub status: u16,
    /// The value of `Retry-After`, from now on; at most [`RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
    /// `Content-Type`, if it is text.
    pub content_type: Option<String>,
    /// The first bytes of the body, at most the request's `body_limit`.
    pub body: Vec<u8>,
    /// The body was longer; the remaining bytes were not read, and the connection is not reused.
    pub truncated: bool,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An answer's status and headers; its body is still to come.
pub(super) fn begin(response: &Response, now: jiff::Timestamp) -> Answer {
    Answer {
        status: response.status().as_u16(),
        retry_after: retry_after(response.headers(), now),
        content_type: content_type(response.headers()),
        body: Vec::new(),
        truncated: false,
    }
}

/// Reads an answer's body, at most `limit` bytes of it.
pub(super) async fn fill(
    answer: &mut Answer,
    mut response: Response,
    limit: usize,
) -> Result<(), reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = limit.saturating_sub(answer.body.len());
        answer.body.extend(chunk.iter().take(room));
        if chunk.len() > room {
            answer.truncated = true;
            break;
        }
    }
    Ok(())
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.chars().take(CONTENT_TYPE_MAX).collect())
}

/// Seconds, or a date in one of the three forms of RFC 9110, section 5.6.7.
fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let now = UNIX_EPOCH + Duration::try_from(now.as_duration()).unwrap_or_default();
        date.duration_since(now).unwrap_or_default()
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(value: &[u8]) -> Option<Duration> {
        let value = HeaderValue::from_bytes(value).unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
        retry_after(&headers, "2026-11-23T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_in_every_form_of_a_date() {
        let minute = Some(Duration::from_mins(1));
        assert_eq!(asked(b"60"), minute);
        assert_eq!(asked(b" 60 "), minute);
        assert_eq!(asked(b"Mon, 23 Nov 2026 10:01:00 GMT"), minute);
        assert_eq!(asked(b"Monday, 23-Nov-26 10:01:00 GMT"), minute);
        assert_eq!(asked(b"Mon Nov 23 10:01:00 2026"), minute);
    }

    #[test]
    fn a_retry_after_in_the_past_is_over() {
        assert_eq!(asked(b"0"), Some(Duration::ZERO));
        assert_eq!(
            asked(b"Mon, 23 Nov 2020 10:01:00 GMT"),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn an_absurd_retry_after_is_cut() {
        for absurd in [
            "99999999999",
            "18446744073709551615",
            "999999999999999999999999999999999999999999",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            assert_eq!(asked(absurd.as_bytes()), Some(RETRY_AFTER_MAX), "{absurd}");
        }
        assert_eq!(asked("9".repeat(100_000).as_bytes()), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn what_is_no_retry_after_is_none() {
        for wrong in [
            &b"soon"[..],
            b"-5",
            b"+5",
            b"1.5",
            b"0x10",
            b"",
            b"\xff\xfe",
            b"60 s",
        ] {
            assert_eq!(asked(wrong), None, "{wrong:?}");
        }
    }
}
