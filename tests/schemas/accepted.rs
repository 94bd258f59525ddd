//! What the schemas and the decoder both accept.

use groupmq::contract::{CommandType, schema};
use groupmq::executor::decode::Decoder;
use serde_json::{Value, json};

use super::example;

#[test]
fn every_accepted_example_is_valid_and_is_read() {
    let decoder = Decoder::new();
    let envelope = jsonschema::validator_for(&example::json("schemas/command.json")).unwrap();
    for (name, example) in example::all("accepted") {
        let body = &example["body"];
        envelope
            .validate(body)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let accepted = example::decode(&decoder, &example)
            .unwrap_or_else(|rejected| panic!("{name}: {rejected:#?}"));

        let written = accepted.command.command_type();
        let payload = body.get("payload").filter(|payload| !payload.is_null());
        let payload = payload.cloned().unwrap_or_else(|| json!({}));
        let on_disk = example::json(format!("schemas/commands/{}.json", written.as_str()));
        jsonschema::validator_for(&on_disk)
            .unwrap()
            .validate(&payload)
            .unwrap_or_else(|error| panic!("{name}: {error}"));

        let canonical = serde_json::to_value(&accepted.command).unwrap();
        let mut again = example.clone();
        again["body"]["payload"] = canonical.clone();
        let again = example::decode(&decoder, &again).unwrap();
        assert_eq!(
            again, accepted,
            "{name}: the canonical form is another command"
        );
        // The example named like its command shows the canonical form itself.
        if name == written.as_str() {
            assert_eq!(canonical.to_string(), payload.to_string(), "{name}");
        }
    }
}

#[test]
fn every_command_has_an_example_of_its_name() {
    let names: Vec<_> = example::all("accepted")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for command in CommandType::ALL {
        let name = command.as_str();
        assert!(
            names.iter().any(|known| known == name),
            "accepted/{name}.json is missing"
        );
    }
    for name in names {
        let command = name.split('.').next().unwrap();
        assert!(
            command.parse::<CommandType>().is_ok(),
            "accepted/{name}.json names no command"
        );
    }
}

#[test]
fn every_generated_schema_is_a_schema() {
    for document in schema::documents().unwrap() {
        if !document.path.contains("asyncapi") {
            let schema: Value = serde_json::from_str(&document.text).unwrap();
            jsonschema::meta::validate(&schema)
                .unwrap_or_else(|error| panic!("{}: {error}", document.path));
            let validator = jsonschema::validator_for(&schema).unwrap();
            for shown in schema["examples"].as_array().unwrap() {
                validator
                    .validate(shown)
                    .unwrap_or_else(|error| panic!("{}: {error}", document.path));
            }
        }
    }
}
