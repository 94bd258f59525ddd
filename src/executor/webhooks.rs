//! Commands about webhook endpoints: executed on the store, without an engine and its accounts.
//!
//! Nothing is changed on the broker here: the executor's caller updates it before the reply is published,
//! and sends the test event of a `TestWebhook`.

use uuid::Uuid;

use crate::contract::{
    Command, CommandResult, ErrorCode, NoticeName, RemoveWebhook, SessionName, SetWebhook,
    SigningSecret, TestWebhook, Timestamp, WebhookId, WebhookNotice, WebhookNoticePayload,
    WebhookState, WebhookTest, endpoint_name,
};
use crate::engines::{Call, Effect, EngineError};
use crate::store;
use crate::store::endpoints::{Endpoint, Endpoints, NewEndpoint, Origin};

use super::Accepted;

/// The namespace of the ids of test events (UUIDv5).
const TESTS: Uuid = Uuid::from_u128(0x5b43_0b9e_1c6e_5a3c_9d0c_2f1f_0a7c_4d11);

/// Executes commands about webhook endpoints.
#[derive(Debug)]
pub(super) struct Webhooks {
    endpoints: Endpoints,
}

impl Webhooks {
    pub(super) const fn new(endpoints: Endpoints) -> Self {
        Self { endpoints }
    }

    /// Executes a command; doing so twice is harmless.
    pub(super) async fn execute(&self, call: &Call) -> Result<Effect, EngineError> {
        let session = &call.session;
        let result = match &call.command {
            Command::SetWebhook(wanted) => self.set(session, wanted).await?,
            Command::RemoveWebhook(wanted) => self.remove(session, wanted).await?,
            Command::ListWebhooks(_) => self.list(session).await?,
            Command::TestWebhook(wanted) => self.test(call, wanted).await?,
            _ => {
                return Err(EngineError::Refused {
                    code: ErrorCode::Internal,
                    message:
                        "a command for the engine was taken for one about webhooks; report this"
                            .to_owned(),
                });
            }
        };
        Effect::new(&result, Vec::new())
    }

    async fn set(
        &self,
        session: &SessionName,
        wanted: &SetWebhook,
    ) -> Result<CommandResult, EngineError> {
        let new = NewEndpoint {
            session: Some(session.clone()),
            id: wanted.id.clone(),
            origin: Origin::Command,
            // Limited to its own session: producers of one session must not receive the events of others.
            settings: wanted.settings(vec![session.into()]),
            secret: SigningSecret::generate(rand::random()),
        };
        let endpoint = self.endpoints.set(new).await.map_err(failed)?;
        Ok(CommandResult::Webhook(Box::new(endpoint.shown())))
    }

    async fn remove(
        &self,
        session: &SessionName,
        wanted: &RemoveWebhook,
    ) -> Result<CommandResult, EngineError> {
        let name = endpoint_name(Some(session), &wanted.id);
        let removed = self.endpoints.remove(&name, wanted.discard.into()).await;
        // Removing an endpoint that does not exist succeeds.
        removed.map_err(failed)?;
        Ok(CommandResult::Done(true))
    }

    async fn list(&self, session: &SessionName) -> Result<CommandResult, EngineError> {
        let endpoints = self.endpoints.of_session(session).await.map_err(failed)?;
        let shown = endpoints.iter().map(Endpoint::shown);
        Ok(CommandResult::Webhooks(shown.collect()))
    }

    async fn test(&self, call: &Call, wanted: &TestWebhook) -> Result<CommandResult, EngineError> {
        let name = endpoint_name(Some(&call.session), &wanted.id);
        let endpoint = self.endpoints.get(&name).await.map_err(failed)?;
        let there = endpoint.is_some_and(|it| it.state != WebhookState::Removing);
        if !there {
            return Err(no_such_endpoint(&wanted.id));
        }
        Ok(CommandResult::WebhookTest(WebhookTest {
            event_id: test_id(&call.session, call.id.as_str()),
        }))
    }
}

/// The event that a `TestWebhook` sends to its endpoint; the same for every execution.
pub(super) fn test_event(accepted: &Accepted, at: Timestamp) -> Option<WebhookNotice> {
    let Command::TestWebhook(test) = &accepted.command else {
        return None;
    };
    let session = &accepted.session;
    Some(WebhookNotice {
        id: test_id(session, accepted.id.as_str()),
        timestamp: at.0.as_millisecond(),
        event: NoticeName::Test,
        session: Some(session.clone()),
        payload: WebhookNoticePayload {
            webhook: endpoint_name(Some(session), &test.id),
            reason: NoticeName::TEST_REASON.to_owned(),
        },
    })
}

fn test_id(session: &SessionName, command_id: &str) -> Uuid {
    Uuid::new_v5(&TESTS, format!("{session}\n{command_id}").as_bytes())
}

fn no_such_endpoint(id: &WebhookId) -> EngineError {
    EngineError::Refused {
        code: ErrorCode::WebhookNotFound,
        message: format!("the session has no webhook endpoint {id}; ListWebhooks lists them"),
    }
}

fn failed(error: store::Error) -> EngineError {
    EngineError::Internal {
        message: error.to_string(),
        source: Box::new(error),
    }
}
