//! Schema and decoder agree on every payload, and no body makes the decoder panic.

use std::sync::LazyLock;

use groupmq::contract::{CommandType, ErrorDetail, schema};
use groupmq::executor::decode::{Decoder, MAX_DETAILS, RawCommand};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::example;

static DECODER: LazyLock<Decoder> = LazyLock::new(Decoder::new);
static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    example::all("accepted")
        .into_iter()
        .map(|(_, example)| example)
        .collect()
});
/// With the crate's default regular expressions, which are not those of the decoder.
static VALIDATORS: LazyLock<Vec<jsonschema::Validator>> = LazyLock::new(|| {
    let compile = |&command| jsonschema::validator_for(&schema::payload(command)).unwrap();
    CommandType::ALL.iter().map(compile).collect()
});

/// Values at the edges of what the schemas allow.
fn value() -> impl Strategy<Value = Value> {
    let phone = "491700000001";
    let edges = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-0.0),
        json!(1.0),
        json!(1.5),
        json!(10_000),
        json!(10_001),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{feff}"),
        json!("\u{85}"),
        json!(" \u{3000}"),
        json!("👩‍👩‍👧\u{200d}"),
        json!("x".repeat(100)),
        json!("é".repeat(101)),
        json!("line\nbreak"),
        json!("x".repeat(2049)),
        json!("participants"),
        json!("desc"),
        json!("123123123123@g.us"),
        json!("12345-1@g.us\n"),
        json!(format!("{phone}@c.us")),
        json!(format!("{phone}@s.whatsapp.net")),
        json!(format!("{phone}@lid")),
        json!(format!("{phone}@c.us\n")),
        json!(phone),
        json!(format!("+{phone}")),
        json!(format!("{phone}:12@s.whatsapp.net")),
        json!(format!("{phone}:12@c.us")),
        json!({ "id": format!("{phone}@c.us") }),
        json!({ "id": null }),
        json!("https://shop.example.com/hooks?a=1"),
        json!("http://[::1]:99999/"),
        json!("https://user@shop.example.com/"),
        json!({ "url": "https://user@shop.example.com/" }),
        json!({ "data": "/9j/4AAQSkZJRgABAQ==" }),
        json!({ "data": "/9j/4AAQSkZJRgABAQ=" }),
        json!({ "data": "R0lGODlhAQABAIAAAAA=" }),
        json!("group.v2.*"),
        json!("message"),
        json!("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        json!("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC"),
        json!("X-Tenant"),
        json!("Content-Length"),
        json!({ "name": "x-tenant", "value": "1" }),
        json!({ "key": "my-secret-key" }),
        json!({ "policy": "linear", "delaySeconds": 1e0, "attempts": 0.0 }),
        json!(64.0),
        json!(65_536),
        json!({}),
        json!([]),
        json!([format!("{phone}@c.us"), { "id": format!("{phone}@s.whatsapp.net") }]),
        json!([[[]]]),
    ];
    prop_oneof![
        4 => proptest::sample::select(edges),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        2 => ".{0,4}".prop_map(Value::String),
        1 => proptest::collection::vec(any::<char>(), 0..4)
            .prop_map(|text| Value::String(text.into_iter().collect())),
        1 => "[0-9]{4,21}@(c\\.us|g\\.us|lid|s\\.whatsapp\\.net)".prop_map(Value::String),
        1 => "\\+?[0-9]{4,17}(:[0-9]{0,6})?(@s\\.whatsapp\\.net)?".prop_map(Value::String),
    ]
}

/// What is done to a payload: a field set, taken away, or added to.
#[derive(Debug, Clone)]
enum Change {
    Replace(usize, Value),
    Remove(usize),
    Add(usize, String, Value),
}

fn change() -> impl Strategy<Value = Change> {
    let field = proptest::sample::select(vec![
        "id",
        "name",
        "limit",
        "participants",
        "picture",
        "url",
        "data",
        "hmac",
        "retries",
        "rateLimit",
        "concurrency",
        "__proto__",
        "",
    ]);
    prop_oneof![
        4 => (any::<usize>(), value()).prop_map(|(at, value)| Change::Replace(at, value)),
        1 => any::<usize>().prop_map(Change::Remove),
        2 => (any::<usize>(), field, value())
            .prop_map(|(at, field, value)| Change::Add(at, field.to_owned(), value)),
    ]
}

/// Every place in a value, as JSON pointers.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                places(value, &format!("{here}/{name}"), found);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                places(value, &format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn apply(payload: &mut Value, change: Change) {
    let mut found = Vec::new();
    places(payload, "", &mut found);
    let at = match &change {
        Change::Replace(at, _) | Change::Remove(at) | Change::Add(at, ..) => at % found.len(),
    };
    let place = &found[at];
    match change {
        Change::Replace(_, value) => *payload.pointer_mut(place).unwrap() = value,
        Change::Remove(_) => {
            let Some((parent, name)) = place.rsplit_once('/') else {
                return;
            };
            match payload.pointer_mut(parent).unwrap() {
                Value::Object(fields) => drop(fields.shift_remove(name)),
                Value::Array(values) => drop(values.remove(name.parse().unwrap())),
                _ => {}
            }
        }
        Change::Add(_, name, value) => match payload.pointer_mut(place).unwrap() {
            Value::Object(fields) => drop(fields.insert(name, value)),
            Value::Array(values) => values.push(value),
            _ => {}
        },
    }
}

/// Whether the reason is one that no schema can state.
fn is_beyond_schema(detail: &ErrorDetail) -> bool {
    let webhook = ["/url", "/events/", "/secrets/", "/customHeaders/"];
    let of_webhook = webhook
        .iter()
        .any(|field| detail.path.starts_with(&format!("/payload{field}")));
    let of_picture = detail.path.starts_with("/payload/picture/");
    detail.reason.starts_with("names the same participant as")
        || detail.reason.starts_with("names the same header as")
        || ((of_webhook || of_picture) && detail.reason.starts_with("must be "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn schema_and_decoder_agree(
        command in 0..CommandType::ALL.len(),
        changes in proptest::collection::vec(change(), 1..4),
    ) {
        let name = CommandType::ALL[command].as_str();
        let mut payload = example::json(format!("schemas/examples/accepted/{name}.json"));
        payload = payload["body"]["payload"].take();
        for change in changes {
            apply(&mut payload, change);
        }
        // A payload of null counts as absent.
        let judged = if payload.is_null() { json!({}) } else { payload.clone() };
        let valid = VALIDATORS[command].is_valid(&judged);
        let body = json!({ "id": "a", "type": name, "session": "s", "payload": payload });
        let body = body.to_string();
        let decoded = DECODER.decode(&RawCommand { body: body.as_bytes(), ..RawCommand::default() });
        match decoded {
            Ok(_) => prop_assert!(valid, "only the decoder accepts {payload}"),
            Err(rejected) => {
                let details = &rejected.error.details;
                prop_assert!((1..=MAX_DETAILS).contains(&details.len()));
                prop_assert!(details.iter().all(|detail| detail.path.starts_with("/payload")));
                let beyond_schema = details.iter().all(is_beyond_schema);
                prop_assert!(!valid || beyond_schema, "only the schema accepts {payload}");
                prop_assert!(
                    details.iter().all(|detail| detail.reason != "cannot be read"),
                    "the schema accepts what serde does not: {payload}"
                );
            }
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        message_id in proptest::option::of(".{0,20}"),
        message_type in proptest::option::of(".{0,20}"),
        session in proptest::option::of(".{0,20}"),
        content_encoding in proptest::option::of(".{0,20}"),
    ) {
        let _verdict = DECODER.decode(&RawCommand {
            body: &body,
            message_id: message_id.as_deref(),
            message_type: message_type.as_deref(),
            session: session.as_deref(),
            content_encoding: content_encoding.as_deref(),
        });
    }

    #[test]
    fn no_change_to_a_body_makes_the_decoder_panic(
        example in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3), 1..6),
    ) {
        let mut body = example::body(example.get(&EXAMPLES));
        for (at, byte, kind) in changes {
            let at = at.index(body.len());
            match kind {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => body.truncate(at + 1),
            }
        }
        let decoded = DECODER.decode(&RawCommand { body: &body, ..RawCommand::default() });
        if let Err(rejected) = decoded {
            prop_assert!((1..=MAX_DETAILS).contains(&rejected.error.details.len()));
        }
    }
}
