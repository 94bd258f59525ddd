//! Error responses as problem details (RFC 9457), and the HTTP status of each error code of the contract.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::contract::{ErrorBody, ErrorCode, ErrorDetail};

/// The media type of problem details.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Values of `Retry-After`: for failures of the gateway, and for those of the engine.
pub(super) const SHORT_RETRY: Duration = Duration::from_secs(1);
const ENGINE_RETRY: Duration = Duration::from_secs(30);

/// An error response.
#[derive(Debug)]
pub(super) struct Problem(Box<ProblemDetails>);

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Problem")]
pub(super) struct ProblemDetails {
    /// Identifies the problem for programs: `urn:groupmq:problem:` and its code.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, the same for every request.
    title: &'static str,
    /// The HTTP status of the response.
    status: u16,
    /// What is wrong with this request, and what to do.
    detail: String,
    /// The code: one of the contract's error codes, or one of the gateway's.
    code: &'static str,
    /// The same request may succeed later.
    retryable: bool,
    /// The id of the command that the request was converted to, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_id: Option<String>,
    /// The invalid fields, at most 32: JSON pointers into the request's body, or a slash and the name of a
    /// parameter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<ErrorDetail>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A problem detected by the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    UnsupportedMediaType,
    TooManyRequests,
    Panicked,
    CommandUnknown,
    Unavailable,
    NoReply,
}

impl Fault {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::CommandUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ContentTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoReply => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::TooManyRequests => "TOO_MANY_REQUESTS",
            Self::Panicked => "GATEWAY_FAILED",
            Self::CommandUnknown => "COMMAND_UNKNOWN",
            Self::Unavailable => "UNAVAILABLE",
            Self::NoReply => "NO_REPLY",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is malformed.",
            Self::Unauthorized => "A key is required in the header X-Api-Key.",
            Self::Forbidden => "The gateway does not allow this.",
            Self::NotFound => "The path does not exist.",
            Self::MethodNotAllowed => "The path does not support this method.",
            Self::RequestTimeout => "The request was sent too slowly.",
            Self::ContentTooLarge => "The body is too large.",
            Self::UnsupportedMediaType => "The body must be JSON.",
            Self::TooManyRequests => "Too many requests are waiting for a reply.",
            Self::Panicked => "The gateway failed; see its log.",
            Self::CommandUnknown => "The command is unknown.",
            Self::Unavailable => "The command was not published.",
            Self::NoReply => "The command has no reply yet.",
        }
    }

    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooManyRequests | Self::Unavailable | Self::NoReply => Some(SHORT_RETRY),
            _ => None,
        }
    }
}

/// The HTTP status of an error code of the contract.
pub(super) const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidJson
        | ErrorCode::UnknownCommand
        | ErrorCode::InvalidPayload
        | ErrorCode::EnvelopeMismatch
        | ErrorCode::SessionMismatch
        | ErrorCode::MissingId => StatusCode::BAD_REQUEST,
        ErrorCode::IdReused => StatusCode::CONFLICT,
        ErrorCode::Expired => StatusCode::GONE,
        ErrorCode::SessionNotFound | ErrorCode::GroupNotFound | ErrorCode::WebhookNotFound => {
            StatusCode::NOT_FOUND
        }
        ErrorCode::NotAMember | ErrorCode::NotAllowed => StatusCode::FORBIDDEN,
        // As in WAHA.
        ErrorCode::SessionNotReady | ErrorCode::NotSupported | ErrorCode::EngineRejected => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::EngineUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::InDoubt => StatusCode::BAD_GATEWAY,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `Retry-After` of an error code of the contract.
pub(super) fn retry_after(code: ErrorCode) -> Option<(HeaderName, HeaderValue)> {
    let waits = matches!(
        code,
        ErrorCode::RateLimited | ErrorCode::EngineUnavailable | ErrorCode::SessionNotReady
    );
    waits.then(|| (header::RETRY_AFTER, seconds(ENGINE_RETRY)))
}

fn seconds(time: Duration) -> HeaderValue {
    HeaderValue::from(time.as_secs())
}

impl Problem {
    /// Creates a problem detected by the gateway itself.
    pub(super) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        let retry = fault.retry_after();
        Self(Box::new(ProblemDetails {
            kind: format!("urn:groupmq:problem:{}", fault.code()),
            title: fault.title(),
            status: fault.status().as_u16(),
            detail: detail.into(),
            code: fault.code(),
            retryable: retry.is_some(),
            command_id: None,
            details: Vec::new(),
            headers: retry
                .map(|time| (header::RETRY_AFTER, seconds(time)))
                .into_iter()
                .collect(),
        }))
    }

    /// Converts an error of the contract.
    pub(super) fn from_contract(error: ErrorBody) -> Self {
        let code = error.code;
        let details: Vec<_> = error.details.into_iter().map(relative).collect();
        let detail = match (code, details.first()) {
            // The message has pointers into the command, which the client does not know.
            (ErrorCode::InvalidPayload, Some(first)) => {
                let place = if first.path.is_empty() {
                    "The request"
                } else {
                    &first.path
                };
                match details.len() {
                    1 => format!("{place} {}.", first.reason),
                    count => format!("{place} {}. {count} fields are invalid.", first.reason),
                }
            }
            _ => error.message,
        };
        Self(Box::new(ProblemDetails {
            kind: format!("urn:groupmq:problem:{}", code.as_str()),
            title: code.cause(),
            status: status(code).as_u16(),
            detail,
            code: code.as_str(),
            retryable: error.retryable,
            command_id: None,
            details,
            headers: retry_after(code).into_iter().collect(),
        }))
    }

    /// Sets the command's id.
    pub(super) fn for_command(mut self, command_id: &str) -> Self {
        self.0.command_id = Some(command_id.to_owned());
        self
    }

    /// Adds a header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }
}

/// Converts a pointer into the command to one into the request.
fn relative(mut detail: ErrorDetail) -> ErrorDetail {
    if let Some(path) = detail.path.strip_prefix("/payload") {
        detail.path = path.to_owned();
    }
    detail
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let headers = std::mem::take(&mut self.0.headers);
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Serialising strings and numbers cannot fail.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        response.headers_mut().extend(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/gateway.md");

    /// The statuses that the page's table has for a code.
    fn documented(code: &str) -> Vec<u16> {
        let (_, table) = PAGE.split_once("\n| status | code |\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let mut rows = rows.filter(|row| row.contains(&format!("`{code}`")));
        let row = rows
            .next()
            .unwrap_or_else(|| panic!("docs/gateway.md does not name {code}"));
        let statuses = row.trim_start_matches('|').split('|').next().unwrap();
        let statuses = statuses.split(',').map(|status| status.trim().parse());
        statuses.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_page_has_the_status_of_every_code() {
        for &code in ErrorCode::ALL {
            // Of an envelope, which the gateway writes itself.
            let ours = [
                ErrorCode::UnknownCommand,
                ErrorCode::EnvelopeMismatch,
                ErrorCode::SessionMismatch,
                ErrorCode::MissingId,
            ];
            if !ours.contains(&code) {
                let status = status(code).as_u16();
                assert!(documented(code.as_str()).contains(&status), "{code:?}");
            }
        }
        for fault in [
            Fault::BadRequest,
            Fault::Unauthorized,
            Fault::Forbidden,
            Fault::NotFound,
            Fault::MethodNotAllowed,
            Fault::RequestTimeout,
            Fault::ContentTooLarge,
            Fault::UnsupportedMediaType,
            Fault::TooManyRequests,
            Fault::Panicked,
            Fault::CommandUnknown,
            Fault::Unavailable,
            Fault::NoReply,
        ] {
            let status = fault.status().as_u16();
            assert!(documented(fault.code()).contains(&status), "{fault:?}");
        }
    }

    #[test]
    fn pointers_lead_into_the_request_and_not_into_the_command() {
        let mut error = ErrorBody::new(ErrorCode::InvalidPayload, "/payload/name is required.");
        error.details.push(ErrorDetail {
            path: "/payload/name".to_owned(),
            reason: "is required".to_owned(),
        });
        let problem = Problem::from_contract(error);
        assert_eq!(problem.0.detail, "/name is required.");
        assert_eq!(problem.0.details[0].path, "/name");
    }
}
