//! Reads example files, and makes of a command's example the message that the broker would deliver.

use std::fs;
use std::path::{Path, PathBuf};

use groupmq::executor::decode::{Accepted, Decoder, RawCommand, Rejected};
use serde_json::Value;

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file below the project's root, read as JSON.
pub(crate) fn json(path: impl AsRef<Path>) -> Value {
    let path = root().join(path);
    let text = fs::read_to_string(&path).map_err(|error| error.to_string());
    let read = text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    assert!(read.is_ok(), "{}: {read:?}", path.display());
    read.unwrap()
}

/// The examples of one folder, by name (without `.json`).
pub(crate) fn all(folder: &str) -> Vec<(String, Value)> {
    let folder = PathBuf::from("schemas/examples").join(folder);
    let entries = fs::read_dir(root().join(&folder)).unwrap();
    let mut examples: Vec<_> = entries
        .map(|entry| {
            let path = folder.join(entry.unwrap().file_name());
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert_eq!(path.extension().unwrap(), "json", "{}", path.display());
            (name.to_owned(), json(&path))
        })
        .collect();
    examples.sort_by(|left, right| left.0.cmp(&right.0));
    assert!(!examples.is_empty(), "{} has no examples", folder.display());
    examples
}

/// The body of an example as it stands on the wire.
pub(crate) fn body(example: &Value) -> Vec<u8> {
    if let Some(body) = example.get("body") {
        return body.to_string().into_bytes();
    }
    if let Some(text) = example.get("bodyText") {
        return text.as_str().unwrap().as_bytes().to_owned();
    }
    if let Some(digits) = example.get("bodyHex") {
        let digits = digits.as_str().unwrap().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        return digits.chunks(2).map(|pair| byte(pair).unwrap()).collect();
    }
    let repeat = &example["bodyRepeat"];
    let text = |field: &str| repeat[field].as_str().unwrap().to_owned();
    let times = usize::try_from(repeat["times"].as_u64().unwrap()).unwrap();
    (text("before") + &text("text").repeat(times) + &text("after")).into_bytes()
}

/// Decodes an example as the worker would.
pub(crate) fn decode(decoder: &Decoder, example: &Value) -> Result<Accepted, Box<Rejected>> {
    let properties = &example["properties"];
    let property = |name: &str| properties.get(name).and_then(Value::as_str);
    // The default exchange, whose name is empty, routes by the queue's name.
    let exchange = property("exchange").unwrap_or("groupmq.commands");
    decoder.decode(&RawCommand {
        body: &body(example),
        message_id: property("messageId"),
        message_type: property("type"),
        session: property("routingKey").filter(|_| !exchange.is_empty()),
        content_encoding: property("contentEncoding"),
    })
}
