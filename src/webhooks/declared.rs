//! Endpoints that the configuration declares: into the store, and those that it declares no more, out.

use std::collections::BTreeSet;

use crate::config::DeclaredWebhook;
use crate::contract::{SigningSecret, WebhookState};
use crate::fanout::Error;
use crate::store::Store;
use crate::store::endpoints::{NewEndpoint, Origin};

/// Makes the endpoints of the configuration those that it declares now.
pub(super) async fn declare(store: &Store, declared: &[DeclaredWebhook]) -> Result<(), Error> {
    let endpoints = store.endpoints();
    let mut wanted = BTreeSet::new();
    for webhook in declared {
        let new = NewEndpoint {
            session: None,
            id: webhook.id.clone(),
            origin: Origin::Configuration,
            settings: webhook.settings.clone(),
            secret: SigningSecret::generate(rand::random()),
        };
        wanted.insert(endpoints.set(new).await?.name);
    }
    for old in endpoints.all().await? {
        if old.origin == Origin::Configuration && !wanted.contains(&old.name) {
            endpoints
                .set_state(&old.name, WebhookState::Removing, None)
                .await?;
        }
    }
    Ok(())
}
