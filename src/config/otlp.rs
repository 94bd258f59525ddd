//! `[otlp]`: the export of spans.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::read::{Section, UNESCAPED, duration, has_unescaped_credentials, share, text};

/// `[otlp]`: the export of spans.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// The collector's base URL; without it no spans are recorded.
    pub endpoint: Option<Url>,
    /// The value of the `Authorization` header.
    pub authorization: Option<SecretString>,
    /// The share of traces starting here that is recorded.
    pub share: f64,
    /// OpenTelemetry's `service.name`.
    pub service_name: String,
    /// Timeout of an export.
    pub timeout: Duration,
}

impl Otlp {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let otlp = Self {
            endpoint: section.optional("endpoint", |value| {
                let text = text(value)?;
                if has_unescaped_credentials(&text) {
                    return Err(UNESCAPED.to_owned());
                }
                let url = text.parse::<Url>().ok();
                url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                    .ok_or_else(|| {
                        "must be an http:// or https:// URL, such as \
                         http://otel-collector:4318"
                            .to_owned()
                    })
            }),
            authorization: section.header_secret("authorization", "authorization_file"),
            share: section.required("share", share),
            service_name: section.required("service_name", text),
            timeout: section.required(
                "timeout",
                duration(Duration::from_millis(100)..=Duration::from_mins(5)),
            ),
        };
        if cfg!(not(feature = "otlp")) && otlp.endpoint.is_some() {
            section.problem(
                "endpoint",
                "cannot be used: this binary was built without the feature otlp",
            );
        }
        section.finish();
        otlp
    }
}
