//! The checked texts of webhook endpoints: url, patterns, secrets, headers.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::contract::ids::{InvalidId, checked_text};
use crate::contract::{EventName, SessionName};

use super::NoticeName;

checked_text! {
    /// Where an endpoint is.
    WebhookUrl,
    "an http:// or https:// URL of at most 2048 visible ASCII characters, without user and password",
    "^https?://[A-Za-z0-9._~\\[\\]:%-]{1,300}([/?#][!-~]{0,1700})?$",
    "https://example.com/hooks/groups",
    web_url
}

checked_text! {
    /// Which events an endpoint wants; `*` stands for any characters, and alone for every group event.
    EventPattern,
    "an event's name such as group.join, or a pattern such as group.* that fits one at least",
    "^[a-z0-9.*-]{1,64}$",
    "group.*",
    |text| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".*-".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        (fits && !event_names(text).is_empty()).then(|| text.into())
    }
}

checked_text! {
    /// Whose events an endpoint wants; `*` stands for any characters.
    SessionPattern,
    "1 to 64 letters, digits, '_', '-' or '*'",
    "^[A-Za-z0-9_*-]{1,64}$",
    "*",
    |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-*".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| text.into())
    }
}

checked_text! {
    /// The name of a header to send along.
    HeaderName,
    "a header's name of at most 64 characters that is neither groupmq's nor the connection's own",
    "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$",
    "X-Tenant",
    |text| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(token);
        (fits && !is_reserved(text)).then(|| text.into())
    }
}

checked_text! {
    hidden
    /// A secret of Standard Webhooks.
    SigningSecret,
    "whsec_ and 24 to 64 bytes in Base64",
    "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$",
    "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    |text| {
        let encoded = text.strip_prefix("whsec_")?;
        let fits = (32..=88).contains(&encoded.len()) && standardwebhooks::Webhook::new(text).is_ok();
        fits.then(|| text.into())
    }
}

checked_text! {
    hidden
    /// The key of WAHA's signature.
    HmacKey,
    "1 to 256 ASCII characters, without control characters",
    "^[ -~]{1,256}$",
    "my-secret-key",
    |text| {
        let fits = (1..=256).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        fits.then(|| text.into())
    }
}

checked_text! {
    hidden
    /// The value of a header to send along; it may be a token.
    HeaderValue,
    "1 to 1024 visible ASCII characters, with spaces only in between",
    "^[!-~]([ -~]{0,1022}[!-~])?$",
    "shop-1",
    |text| {
        let fits = (1..=1024).contains(&text.len())
            && text.bytes().all(|b| (b' '..=b'~').contains(&b))
            && text.trim() == text;
        fits.then(|| text.into())
    }
}

impl SigningSecret {
    /// A secret of these bytes, which have to be random.
    #[must_use]
    pub fn generate(random: [u8; 24]) -> Self {
        Self(format!("whsec_{}", STANDARD.encode(random)).into())
    }
}

impl EventPattern {
    /// The pattern of every group event.
    #[must_use]
    pub fn every() -> Self {
        Self("*".into())
    }

    /// Every name that the pattern fits: ends of routing keys.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        event_names(self.as_str())
    }
}

/// The pattern that fits one session alone.
impl From<&SessionName> for SessionPattern {
    fn from(session: &SessionName) -> Self {
        Self(session.shared())
    }
}

impl SessionPattern {
    /// The pattern of every session.
    #[must_use]
    pub fn every() -> Self {
        Self("*".into())
    }

    /// Whether a session fits.
    #[must_use]
    pub fn fits(&self, session: &str) -> bool {
        glob(self.as_str().as_bytes(), session.as_bytes())
    }

    /// Whether it is a session's name and no pattern.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.as_str().contains('*')
    }
}

/// What `*` alone means is every event of groups: an endpoint learns of endpoints only if it says so.
fn event_names(pattern: &str) -> Vec<&'static str> {
    let pattern = match pattern {
        // WAHA's name for the same.
        "group.leave" => EventName::GroupLeft.as_str(),
        other => other,
    };
    let groups = EventName::ALL.iter().map(|name| name.as_str());
    let notices = NoticeName::ALL
        .iter()
        // A test goes to one endpoint, whatever that wants.
        .filter(|name| pattern != "*" && **name != NoticeName::Test)
        .map(|name| name.as_str());
    groups
        .chain(notices)
        .filter(|name| glob(pattern.as_bytes(), name.as_bytes()))
        .collect()
}

/// Whether a text fits a pattern in which `*` stands for any characters, or none.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where the last star was, and how much of the text it has swallowed so far.
    let (mut star, mut p, mut t) = (None, 0, 0);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if text.get(t) == Some(byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, swallowed)) = star else {
                    return false;
                };
                star = Some((at, swallowed + 1));
                p = at + 1;
                t = swallowed + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// A URL of the web without user and password, in visible ASCII.
pub(in crate::contract) fn web_url(text: &str) -> Option<Arc<str>> {
    let url = url::Url::parse(text).ok()?;
    let plain = text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_graphic());
    let web = text.starts_with("http://") || text.starts_with("https://");
    let fits = plain && web && url.has_host() && authority_is_plain(text);
    fits.then(|| text.into())
}

/// Whether the part between `//` and the path holds neither user nor password, nor anything odd.
fn authority_is_plain(text: &str) -> bool {
    let after = text.split_once("://").map_or("", |(_, after)| after);
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~[]:%-".contains(&b);
    (1..=300).contains(&authority.len())
        && authority.bytes().all(plain)
        && after.len() - authority.len() <= 1701
}

/// Headers that say how the body is carried, and ours.
fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ours = ["webhook-", "x-webhook-", "proxy-", "sec-"];
    let carriage = [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    ours.iter().any(|prefix| name.starts_with(prefix)) || carriage.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Vec<&'static str> {
        pattern
            .parse::<EventPattern>()
            .map_or_else(|_| Vec::new(), |pattern| pattern.names())
    }

    #[test]
    fn a_star_alone_is_every_group_event_and_no_notice_of_endpoints() {
        let all = names("*");
        assert_eq!(all.len(), EventName::ALL.len());
        assert!(all.iter().all(|name| name.starts_with("group.")));
        assert_eq!(
            names("webhook.*"),
            ["webhook.failing", "webhook.disabled", "webhook.recovered"]
        );
    }

    #[test]
    fn patterns_fit_names_and_waha_s_name_is_understood() {
        assert_eq!(names("group.leave"), ["group.left"]);
        assert_eq!(names("group.v2.*").len(), 5);
        assert_eq!(names("group.*").len(), EventName::ALL.len());
        assert_eq!(names("*.join"), ["group.join", "group.v2.join"]);
        assert!(names("message").is_empty());
        assert!(names("webhook.test").is_empty());
    }

    #[test]
    fn a_glob_fits_as_people_expect() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "shop", true),
            ("shop-*", "shop-1", true),
            ("shop-*", "shop", false),
            ("*-1", "shop-1-1", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("shop", "shop1", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                fits,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn urls_are_of_the_web_and_hold_no_user() {
        for good in [
            "http://a",
            "https://example.com:8443/x?y=1",
            "http://[::1]:80/",
        ] {
            assert!(good.parse::<WebhookUrl>().is_ok(), "{good}");
        }
        for bad in [
            "ftp://example.com",
            "https://user:pass@example.com/",
            "https://user@example.com",
            "https://",
            "https:///x",
            "https://exa mple.com",
            "https://example.com:99999/",
            "https://example.com/\u{e9}",
            "HTTPS://example.com",
            "",
        ] {
            assert!(bad.parse::<WebhookUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_of_the_connection_and_ours_are_refused() {
        for good in ["X-Tenant", "Authorization", "x"] {
            assert!(good.parse::<HeaderName>().is_ok(), "{good}");
        }
        for bad in [
            "Host",
            "content-LENGTH",
            "Transfer-Encoding",
            "Webhook-Signature",
            "X-Webhook-Hmac",
            "a b",
            "a:b",
            "a\r\nb",
            "",
        ] {
            assert!(bad.parse::<HeaderName>().is_err(), "{bad}");
        }
        assert!("a\r\nx: y".parse::<HeaderValue>().is_err());
        assert!(" a".parse::<HeaderValue>().is_err());
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        let secret: SigningSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        let made = SigningSecret::generate([0xff; 24]);
        assert_eq!(made.as_str().parse(), Ok(made));
        for bad in [
            "whsec_",
            "whsec_short",
            "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7o!",
        ] {
            assert!(bad.parse::<SigningSecret>().is_err(), "{bad}");
        }
    }
}
