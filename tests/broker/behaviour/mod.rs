//! One suite of behaviour, run over every engine: the sandbox, and WAHA with WEBJS, NOWEB and GOWS, each
//! with groups by phone and by lid, and NOWEB with its store and without.
//!
//! Commands go through the broker to the real binary, which talks to a real HTTP server. What a
//! producer and a listener see has to be the same, whatever is underneath; where it cannot be, the
//! stage says so and docs/engines.md has it.

mod ensure;
mod groups;
mod joining;
mod lids;
mod pictures;
mod rights;
pub(crate) mod stage;

use stage::{Kind, Stage};

/// Runs each of these over each engine.
macro_rules! on_every_engine {
    ($($test:path as $name:ident;)*) => {$(
        mod $name {
            use super::{Kind, Stage};

            #[tokio::test]
            async fn on_the_sandbox() {
                $test(Stage::new(Kind::Sandbox).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_webjs() {
                $test(Stage::new(Kind::Webjs).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_noweb() {
                $test(Stage::new(Kind::Noweb).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_gows() {
                $test(Stage::new(Kind::Gows).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_webjs_by_lid() {
                $test(Stage::by_lid(Kind::Webjs).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_noweb_by_lid() {
                $test(Stage::by_lid(Kind::Noweb).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_nowebs_store() {
                $test(Stage::stored(false).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_nowebs_store_by_lid() {
                $test(Stage::stored(true).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_gows_by_lid() {
                $test(Stage::by_lid(Kind::Gows).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_webjs_at_its_oddest() {
                $test(Stage::odd(Kind::Webjs).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_noweb_at_its_oddest() {
                $test(Stage::odd(Kind::Noweb).await).await;
            }

            #[tokio::test]
            async fn on_waha_with_gows_at_its_oddest() {
                $test(Stage::odd(Kind::Gows).await).await;
            }
        }
    )*};
}

on_every_engine! {
    super::ensure::a_group_becomes_as_wanted as desired_state;
    super::ensure::what_the_account_may_not_do_is_said as desired_state_without_rights;
    super::groups::lives as a_group_lives_from_its_creation_to_the_leaving_of_its_creator;
    super::groups::is_deleted_for_everyone as a_group_is_deleted_for_everyone;
    super::groups::are_listed as groups_are_listed_sorted_and_paged;
    super::joining::by_the_link as an_account_joins_by_the_link_and_is_told_where_it_leads_nowhere;
    super::joining::with_approval as an_admin_decides_who_joins;
    super::lids::are_told_and_looked_up as private_ids_are_told_and_looked_up;
    super::pictures::are_set_shown_and_removed as pictures_are_set_shown_and_removed;
    super::rights::of_members as who_is_no_admin_is_told_so;
    super::rights::of_strangers as a_group_that_is_not_there_is_not_found;
    super::rights::of_the_creator as nobody_removes_or_demotes_the_creator;
}
