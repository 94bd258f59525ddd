//! Which store it is, and whether it still is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::future::join_all;

use super::*;
use crate::store::Error;

fn file(database: &Database) -> PathBuf {
    PathBuf::from(database.url.strip_prefix("sqlite:").unwrap())
}

#[tokio::test]
async fn all_who_open_a_store_at_once_find_one_id_and_it_stays() {
    let mut ids = BTreeSet::new();
    for database in both() {
        let stores = join_all((0..4).map(|_| database.open())).await;
        let found: BTreeSet<_> = stores
            .iter()
            .map(|store| store.installation().id().to_owned())
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        drop(stores);
        let again = database.open().await;
        assert!(found.contains(again.installation().id()));
        again.installation().check_files().await.unwrap();
        again.installation().check_id().await.unwrap();
        ids.extend(found);
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn a_store_that_was_emptied_or_has_another_id_is_replaced() {
    for database in both() {
        let store = database.open().await;
        for change in [
            "UPDATE installation SET id = 'fedcba9876543210fedcba9876543210'",
            "DELETE FROM installation",
            "DROP TABLE installation",
        ] {
            store.batcher.raw(change).await.unwrap();
            let error = store.installation().check_id().await.unwrap_err();
            assert!(matches!(error, Error::Replaced(_)), "{change}: {error}");
        }
    }
}

#[tokio::test]
async fn no_connection_is_made_to_a_file_that_took_the_place_of_another_one() {
    let (database, other) = (sqlite(), sqlite());
    let store = database.open().await;
    drop(other.open().await);
    std::fs::copy(file(&other), file(&other).with_extension("copy")).unwrap();
    std::fs::rename(file(&other).with_extension("copy"), file(&database)).unwrap();
    let error = store.installation().check_files().await.unwrap_err();
    assert!(
        error.to_string().contains("replaced by another one"),
        "{error}"
    );
    // The file that is open goes on to be used by whoever has it; nobody opens the other one.
    let error = store.installation().check_id().await.unwrap_err();
    assert!(error.is_outage(), "{error}");
}

#[tokio::test]
async fn a_store_without_its_writer_keeps_its_files_and_can_be_read() {
    let database = sqlite();
    let opened = Store::open(&database.config(), database.clock.clone()).await;
    let (store, writer) = opened.unwrap();
    drop(writer);
    store.ping().await.unwrap();
    store.installation().check_files().await.unwrap();
}
