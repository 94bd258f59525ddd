//! The pairs of private id and phone that WAHA's engine knows. NOWEB knows some only with its store.

use serde_json::Value;

use super::{Completed, Operation};
use crate::contract::{CommandResult, Count, ErrorCode, LidPair, ListLids, ParticipantId};
use crate::engines::EngineError;
use crate::engines::waha::error::FailureCause;
use crate::engines::waha::phone_directory::encoded;
use crate::engines::waha::wire::participant;

impl Operation<'_> {
    pub(super) async fn list_lids(&self, asked: &ListLids) -> Result<Completed, EngineError> {
        let query = [
            ("limit", asked.limit.to_string()),
            ("offset", asked.offset.to_string()),
        ];
        let body = self.lids_request("lids", &query).await?;
        let pairs = body
            .as_array()
            .ok_or_else(|| self.unreadable("no list of lids"))?;
        let pairs = pairs.iter().map(pair).filter(|it| it.lid.is_some());
        Ok(Completed::unchanged(CommandResult::Lids(pairs.collect())))
    }

    pub(super) async fn count_lids(&self) -> Result<Completed, EngineError> {
        let body = self.lids_request("lids/count", &[]).await?;
        let count = body.get("count").and_then(Value::as_u64);
        let count = count.ok_or_else(|| self.unreadable("no number of lids"))?;
        let count = Count { count };
        Ok(Completed::unchanged(CommandResult::Count(count)))
    }

    pub(super) async fn get_phone_by_lid(
        &self,
        lid: &ParticipantId,
    ) -> Result<Completed, EngineError> {
        let path = format!("lids/{}", encoded(lid));
        let found = pair(&self.lids_request(&path, &[]).await?);
        let pair = LidPair {
            lid: Some(lid.clone()),
            pn: found.pn,
        };
        Ok(Completed::unchanged(CommandResult::Lid(pair)))
    }

    pub(super) async fn get_lid_by_phone(
        &self,
        phone: &ParticipantId,
    ) -> Result<Completed, EngineError> {
        let path = format!("lids/pn/{}", encoded(phone));
        let found = pair(&self.lids_request(&path, &[]).await?);
        let pair = LidPair {
            lid: found.lid,
            pn: Some(phone.clone()),
        };
        Ok(Completed::unchanged(CommandResult::Lid(pair)))
    }

    async fn lids_request(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Value, EngineError> {
        match self.client.session_request(self.caller, path, query).await {
            Ok(body) => {
                let body = body.json();
                let pairs = body.as_array().map(Vec::as_slice);
                let pairs = pairs.unwrap_or(std::slice::from_ref(body));
                self.phone_directory.remember_pairs(pairs);
                Ok(body.clone())
            }
            // The request is valid, so it is NOWEB without its store.
            Err(failure) if matches!(failure.cause, FailureCause::Invalid(_)) => Err(unsupported()),
            Err(failure) => Err(match failure.into_engine_error() {
                error if error.code() == ErrorCode::NotSupported => unsupported(),
                error => error,
            }),
        }
    }
}

/// By WAHA's documents and sources.
fn unsupported() -> EngineError {
    EngineError::Refused {
        code: ErrorCode::NotSupported,
        message: "WAHA knows private ids since 2025, with GOWS, WEBJS, and NOWEB with \
                  config.noweb.store.enabled"
            .to_owned(),
    }
}

fn pair(entry: &Value) -> LidPair {
    let id = |name: &str| entry.get(name).and_then(participant);
    LidPair {
        lid: id("lid").filter(|id| !id.is_phone()),
        pn: id("pn").filter(ParticipantId::is_phone),
    }
}
