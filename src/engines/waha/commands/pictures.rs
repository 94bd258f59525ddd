//! The picture of a group. The worker fetches and decodes it, and WAHA gets the bytes: so WAHA fetches no URL
//! for a producer, and a file that is no picture is named on every engine.
//!
//! WAHA posts nothing about pictures, so only the pictures of our own commands cause events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Completed, Operation};
use crate::contract::{
    CommandResult, GroupId, GroupPicture, PictureChange, PictureKind, SetGroupPicture,
};
use crate::engines::EngineError;
use crate::engines::sync::Observation;
use crate::engines::waha::client::{ApiRequest, within};
use crate::outbound::Method;

const PATH: &str = "/picture";

impl Operation<'_> {
    pub(super) async fn get_picture(
        &self,
        id: &GroupId,
        refresh: bool,
    ) -> Result<Completed, EngineError> {
        let url = self.picture_url(id, refresh).await?;
        if url.is_none() {
            // The same answer is given where WhatsApp shows the picture to members only.
            self.read_group(id).await?;
        } else {
            self.check_still_inside(id).await?;
        }
        let picture = GroupPicture { url };
        Ok(Completed::unchanged(CommandResult::GroupPicture(picture)))
    }

    async fn picture_url(
        &self,
        id: &GroupId,
        refresh: bool,
    ) -> Result<Option<String>, EngineError> {
        let query = [("refresh", refresh.to_string())];
        let ask = ApiRequest {
            query: &query,
            ..ApiRequest::get(within(id, PATH))
        };
        let body = match self.client.groups(self.caller, ask).await {
            Ok(body) => body,
            Err(failure) if matches!(failure.cause.whatsapp(), Some(401 | 403 | 404)) => {
                return Ok(None);
            }
            Err(failure) => return Err(failure.into_engine_error()),
        };
        let url = body.json().get("url");
        let url = url.ok_or_else(|| self.unreadable("no URL of a picture"))?;
        Ok(url.as_str().map(str::to_owned))
    }

    pub(super) async fn set_picture(
        &self,
        asked: &SetGroupPicture,
    ) -> Result<Completed, EngineError> {
        let picture = self.pictures.obtain(&asked.picture).await?;
        let filename = match picture.kind {
            PictureKind::Jpeg => "picture.jpg",
            PictureKind::Png => "picture.png",
        };
        let file = json!({
            "mimetype": picture.kind.media_type(),
            "filename": filename,
            "data": STANDARD.encode(&picture.bytes),
        });
        let body = Some(json!({ "file": file }));
        let ask = ApiRequest::change(Method::PUT, within(&asked.group_id, PATH), body);
        let change = Observation::PictureChanged(PictureChange::Changed);
        self.change_info(&asked.group_id, ask, vec![change]).await
    }

    pub(super) async fn delete_picture(&self, id: &GroupId) -> Result<Completed, EngineError> {
        // WAHA answers the same where there was none, which is no change.
        let had_none = matches!(self.picture_url(id, true).await, Ok(None));
        let ask = ApiRequest::change(Method::DELETE, within(id, PATH), None);
        let change = Observation::PictureChanged(PictureChange::Removed);
        let changes = if had_none { Vec::new() } else { vec![change] };
        self.change_info(id, ask, changes).await
    }
}
