//! WAHA's requests about pictures: its `file` is the command's `picture`, and its answer is `{"success": …}`.
//!
//! WAHA's `mimetype` and `filename` are ignored, since a picture shows its kind itself.

use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use super::fields::BodyFields;
use crate::contract::{CommandType, ErrorBody, PICTURE_BYTES_MAX};

/// A body may have this size even if `gateway.body_max` is smaller: Base64 of the largest picture, and room for
/// the rest.
pub(super) const BODY_MAX: usize = PICTURE_BYTES_MAX / 3 * 4 + (64 << 10);

/// WAHA's name of the field.
const FILE: &str = "file";

/// The command's.
const PICTURE: &str = "picture";

/// Reads WAHA's body as the command's payload.
pub(super) fn from_waha(command: CommandType, fields: &mut BodyFields<'_>) {
    if command == CommandType::SetGroupPicture {
        fields.rename(FILE, PICTURE, |file| {
            let mut file: Map<String, Value> = serde_json::from_str(file.get()).ok()?;
            file.retain(|name, _| !["mimetype", "filename"].contains(&name.as_str()));
            to_raw_value(&file).ok()
        });
    }
}

/// Names WAHA's field in an error.
pub(super) fn error_in_waha(command: CommandType, mut error: ErrorBody) -> ErrorBody {
    if command == CommandType::SetGroupPicture {
        let pointers = (format!("/payload/{PICTURE}"), format!("/payload/{FILE}"));
        error.message = error.message.replace(&pointers.0, &pointers.1);
        for detail in &mut error.details {
            detail.path = detail.path.replace(&pointers.0, &pointers.1);
        }
    }
    error
}

/// Whether WAHA answers a command with `{"success": …}`.
pub(super) const fn answers_with_success(command: CommandType) -> bool {
    matches!(
        command,
        CommandType::SetGroupPicture | CommandType::DeleteGroupPicture
    )
}

/// The schema of WAHA's body, from that of the payload.
pub(super) fn schema_in_waha(command: CommandType, payload: &mut Value, example: &mut Value) {
    if command != CommandType::SetGroupPicture {
        return;
    }
    let file = json!({
        "description": "The picture: a JPEG or PNG of at most 4 MiB. Either url or data is required.",
        "type": "object",
        "properties": {
            "url": { "$ref": "#/components/schemas/PictureUrl" },
            "data": { "$ref": "#/components/schemas/PictureData" },
            "mimetype": { "description": "Ignored.", "type": "string" },
            "filename": { "description": "Ignored.", "type": "string" },
        },
        "anyOf": [{ "required": ["url"] }, { "required": ["data"] }],
    });
    if let Some(fields) = payload.get_mut("properties").and_then(Value::as_object_mut) {
        fields.shift_remove(PICTURE);
        fields.insert(FILE.to_owned(), file);
    }
    if let Some(required) = payload.get_mut("required").and_then(Value::as_array_mut) {
        for name in required.iter_mut().filter(|name| *name == PICTURE) {
            *name = FILE.into();
        }
    }
    if let Some(fields) = example.as_object_mut()
        && let Some(picture) = fields.shift_remove(PICTURE)
    {
        fields.insert(FILE.to_owned(), picture);
    }
}
