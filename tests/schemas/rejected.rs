//! What the decoder refuses: with exactly the code, the places and the reasons that a file states.

use groupmq::contract::{CommandType, ErrorCode, schema};
use groupmq::executor::decode::Decoder;
use serde_json::{Value, json};

use super::example;

/// The codes that reading a message can end in; the others come from executing it.
const DECODER_CODES: &[ErrorCode] = &[
    ErrorCode::InvalidJson,
    ErrorCode::UnknownCommand,
    ErrorCode::InvalidPayload,
    ErrorCode::EnvelopeMismatch,
    ErrorCode::SessionMismatch,
    ErrorCode::MissingId,
];

#[test]
fn every_rejected_example_is_refused_for_the_reason_it_states() {
    let decoder = Decoder::new();
    let mut differences = Vec::new();
    for (name, example) in example::all("rejected") {
        let Err(rejected) = example::decode(&decoder, &example) else {
            panic!("{name} is accepted");
        };
        let expected = &example["expect"];
        let found = json!({
            "code": rejected.error.code,
            "details": rejected.error.details,
        });
        let wanted = json!({ "code": expected["code"], "details": expected["details"] });
        if found != wanted {
            differences.push(format!("{name} is refused with {found:#}"));
        }
        assert_eq!(
            rejected.error.retryable,
            rejected.error.code.retryable(),
            "{name}"
        );
        for (field, found) in [
            ("commandId", json!(rejected.command_id)),
            ("type", json!(rejected.command_type)),
            ("session", json!(rejected.session)),
        ] {
            if let Some(wanted) = expected.get(field) {
                assert_eq!(&found, wanted, "{name}: {field}");
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_schema_refuses_what_the_decoder_refuses_in_a_payload() {
    for (name, example) in example::all("rejected") {
        let expected = &example["expect"];
        let details = expected["details"].as_array().unwrap();
        let payload_alone = details
            .iter()
            .all(|detail| detail["path"].as_str().unwrap().starts_with("/payload"));
        if expected["code"] != json!("INVALID_PAYLOAD") || !payload_alone {
            continue;
        }
        let body: Value = serde_json::from_slice(&example::body(&example)).unwrap();
        let command: CommandType = body["type"].as_str().unwrap().parse().unwrap();
        let payload = body.get("payload").cloned().unwrap_or_else(|| json!({}));
        let schema = jsonschema::validator_for(&schema::payload(command)).unwrap();
        let beyond_schema = expected.get("schemaAccepts") == Some(&json!(true));
        assert_eq!(schema.is_valid(&payload), beyond_schema, "{name}");
    }
}

#[test]
fn every_code_and_every_command_has_a_rejected_example() {
    let examples = example::all("rejected");
    for code in DECODER_CODES {
        let shown = examples
            .iter()
            .any(|(_, example)| example["expect"]["code"] == json!(code));
        assert!(shown, "no rejected example of {}", code.as_str());
    }
    for command in CommandType::ALL {
        let shown = examples.iter().any(|(name, example)| {
            let body = serde_json::from_slice::<Value>(&example::body(example));
            name.starts_with("payload.")
                && body.is_ok_and(|body| body["type"] == json!(command.as_str()))
        });
        assert!(shown, "no rejected payload of {}", command.as_str());
    }
}
