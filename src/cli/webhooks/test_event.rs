//! `groupmq webhooks test`: publishes a test event to one endpoint's queue.

use serde_json::json;
use uuid::Uuid;

use crate::amqp::Outgoing;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::{NoticeName, WebhookNotice, WebhookNoticePayload, WebhookState};

use super::{Named, WebhookAdmin, now, state};

pub(super) async fn run(admin: &WebhookAdmin, named: &Named) -> Result<Exit, Failure> {
    let name = &named.name;
    let endpoint = admin.find(name).await?;
    if endpoint.state == WebhookState::Removing {
        return Err(state::being_removed(name));
    }
    // The queue must exist.
    admin.fanout.sync(name).await?;
    let event = WebhookNotice {
        id: Uuid::now_v7(),
        timestamp: now().0.as_millisecond(),
        event: NoticeName::Test,
        session: endpoint.session,
        payload: WebhookNoticePayload {
            webhook: name.clone(),
            reason: NoticeName::TEST_REASON.to_owned(),
        },
    };
    let client = admin.client().await?;
    let published = client
        .publish(&Outgoing {
            routing_key: admin.names.webhook(name),
            message_id: event.id.to_string(),
            message_type: event.event.as_str().to_owned(),
            // Serialising our own types cannot fail.
            body: serde_json::to_vec(&event).unwrap_or_default(),
            ..Outgoing::default()
        })
        .await;
    client.close().await;
    published?;
    output::line(&if named.json {
        json!({ "eventId": event.id }).to_string()
    } else {
        let how = match endpoint.state {
            WebhookState::Paused | WebhookState::Disabled => {
                format!("waits, since {name} is {}", endpoint.state.as_str())
            }
            WebhookState::Active | WebhookState::Removing => format!("is queued for {name}"),
        };
        let id = event.id;
        format!("event {id} {how}; `groupmq webhooks deliveries --event {id}` shows its delivery")
    })?;
    Ok(Exit::Ok)
}
