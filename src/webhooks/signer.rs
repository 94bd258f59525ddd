//! Signs deliveries, by Standard Webhooks and by WAHA's HMAC.
//!
//! During a rotation, every valid secret signs. Sources: Standard Webhooks 1.0, "Signature scheme";
//! WAHA 2026.7, "Webhooks", HMAC authentication.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use sha2::Sha512;
use standardwebhooks::Webhook;

use crate::contract::HmacKey;
use crate::store::endpoints::Endpoint;

/// Holds the keys of one endpoint.
pub(super) struct Signer {
    /// Each with its expiry, in milliseconds since 1970.
    standard: Vec<(Webhook, Option<i64>)>,
    waha: Option<HmacKey>,
}

impl Signer {
    /// Uses the endpoint's own secrets, or those that groupmq generated if it has none.
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let own = &endpoint.settings.secrets;
        let texts: Vec<_> = if own.is_empty() {
            let managed = &endpoint.secrets;
            managed.iter().map(|it| (&it.secret, it.until)).collect()
        } else {
            own.iter().map(|secret| (secret, None)).collect()
        };
        // Secrets were validated when they were set; an invalid one is skipped.
        let standard = texts
            .into_iter()
            .filter_map(|(secret, until)| Some((Webhook::new(secret.as_str()).ok()?, until)))
            .collect();
        let waha = endpoint.settings.hmac.as_ref().map(|hmac| hmac.key.clone());
        Self { standard, waha }
    }

    /// `webhook-signature`: one `v1,…` for each secret. None if the body is not UTF-8.
    pub(super) fn standard(&self, id: &str, now_ms: i64, body: &[u8]) -> Option<String> {
        let signatures: Vec<_> = self
            .standard
            .iter()
            .filter(|(_, until)| until.is_none_or(|until| until > now_ms))
            .filter_map(|(webhook, _)| webhook.sign(id, now_ms / 1000, body).ok())
            .collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }

    /// `X-Webhook-Hmac`: HMAC-SHA512 over the body, in hexadecimal.
    pub(super) fn waha(&self, body: &[u8]) -> Option<String> {
        let key = self.waha.as_ref()?;
        let mut mac = Hmac::<Sha512>::new_from_slice(key.as_str().as_bytes()).ok()?;
        mac.update(body);
        let digest = mac.finalize().into_bytes();
        Some(digest.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES of WAHA: key, body and signature as its documentation shows them.
    #[test]
    fn waha_s_own_example_comes_out() {
        let signer = Signer {
            standard: Vec::new(),
            waha: Some("my-secret-key".parse().unwrap()),
        };
        let body = br#"{"event":"message","session":"default","engine":"WEBJS"}"#;
        assert_eq!(
            signer.waha(body).unwrap(),
            "208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8\
             097c462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89"
        );
    }

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn every_secret_signs_until_its_time_is_over() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let webhook = || Webhook::new(secret).unwrap();
        let signer = Signer {
            standard: vec![(webhook(), None), (webhook(), Some(1_614_265_331_000))],
            waha: None,
        };
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let sign = |at| signer.standard(id, at, br#"{"test": 2432232314}"#).unwrap();
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(1_614_265_330_000), format!("{one} {one}"));
        assert_eq!(sign(1_614_265_331_000).split(' ').count(), 1);
        assert!(signer.waha(b"x").is_none());
    }
}
