//! Endpoints that the configuration declares: into the store, and those that it declares no more, out.

use std::collections::BTreeSet;

use crate::config::DeclaredWebhook;
use crate::contract::{SigningSecret, WebhookState};
use crate::store::endpoints::{NewEndpoint, Origin};
use crate::store::{Error, Store};

/// Sets the endpoints of the configuration, and returns their names.
///
/// # Errors
/// When the store cannot be used; asking again is safe.
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

/// Has those go that some configuration declared and that are not declared now.
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
