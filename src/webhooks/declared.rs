//! Endpoints declared in the configuration: stores them, and removes those that are no longer declared.

use std::collections::BTreeSet;

use crate::config::DeclaredWebhook;
use crate::contract::{SigningSecret, WebhookState};
use crate::store::endpoints::{NewEndpoint, Origin};
use crate::store::{Error, Store};

/// Stores the endpoints of the configuration and returns their names.
///
/// # Errors
/// When the store cannot be used; a retry is safe.
pub async fn declare(
    store: &Store,
    declared: &[DeclaredWebhook],
) -> Result<BTreeSet<String>, Error> {
    let endpoints = store.endpoints();
    let mut names = BTreeSet::new();
    for webhook in declared {
        let new = NewEndpoint {
            session: None,
            id: webhook.id.clone(),
            origin: Origin::Configuration,
            settings: webhook.settings.clone(),
            secret: SigningSecret::generate(rand::random()),
        };
        names.insert(endpoints.set(new).await?.name);
    }
    Ok(names)
}

/// Starts the removal of endpoints that came from a configuration and are no longer declared.
pub(super) async fn retire(store: &Store, declared: &BTreeSet<String>) -> Result<(), Error> {
    let endpoints = store.endpoints();
    for old in endpoints.all().await? {
        if old.origin == Origin::Configuration && !declared.contains(&old.name) {
            endpoints
                .set_state(&old.name, WebhookState::Removing, None)
                .await?;
        }
    }
    Ok(())
}
