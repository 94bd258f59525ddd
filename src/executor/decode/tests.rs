//! Cases that the examples in `schemas/examples` do not cover: hostile bodies, bounds, fingerprints.

use super::*;

fn decoder() -> Decoder {
    Decoder::new()
}

fn decode(body: &str) -> Result<Accepted, Box<Rejected>> {
    decoder().decode(&RawCommand {
        body: body.as_bytes(),
        ..RawCommand::default()
    })
}

fn promote(participants: &str) -> String {
    format!(
        r#"{{"id":"a","type":"PromoteAdmin","session":"s",
            "payload":{{"groupId":"123123123123@g.us","participants":{participants}}}}}"#
    )
}

fn refusal(body: &str) -> (ErrorCode, Vec<(String, String)>) {
    let error = decode(body).unwrap_err().error;
    let details = error.details.into_iter();
    (error.code, details.map(|d| (d.path, d.reason)).collect())
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let (code, details) = refusal(
        r#"{"id":" ","type":"CreateGroup","expiresAt":"soon",
            "payload":{"participants":[{"id":"+49@c.us"},7,{"ID":1}],"nmae":"x"}}"#,
    );
    assert_eq!(code, ErrorCode::InvalidPayload);
    let paths: Vec<_> = details.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/id",
            "/session",
            "/expiresAt",
            "/payload/name",
            "/payload/participants/0/id",
            "/payload/participants/1",
            "/payload/participants/2/ID",
            "/payload/participants/2/id",
            "/payload/nmae",
        ],
        "{details:#?}"
    );
}

#[test]
fn the_same_command_has_the_same_fingerprint_however_it_is_written() {
    let plain = decode(&promote(r#"[{"id":"491700000001@c.us"}]"#)).unwrap();
    let other = decode(
        r#"{"expiresAt":"2030-01-01T00:00:00Z","session":"s","type":"PromoteAdmin","id":"b",
            "payload":{"participants":["491700000001@s.whatsapp.net"],"groupId":"123123123123@g.us"}}"#,
    );
    assert_eq!(plain.fingerprint, other.unwrap().fingerprint);
    let demote = promote(r#"["491700000001@c.us"]"#).replace("Promote", "Demote");
    assert_ne!(plain.fingerprint, decode(&demote).unwrap().fingerprint);
    let another_person = promote(r#"["491700000002@c.us"]"#);
    assert_ne!(
        plain.fingerprint,
        decode(&another_person).unwrap().fingerprint
    );
}

#[test]
fn a_person_named_twice_in_two_spellings_is_refused() {
    let (code, details) = refusal(&promote(
        r#"["491700000001@c.us","491700000002@c.us",{"id":"491700000001@s.whatsapp.net"},"491700000002@c.us"]"#,
    ));
    assert_eq!(code, ErrorCode::InvalidPayload);
    let twice = |at, first| {
        (
            format!("/payload/participants/{at}"),
            format!("names the same participant as /payload/participants/{first}"),
        )
    };
    assert_eq!(details, [twice(2, 0), twice(3, 1)]);
}

#[test]
fn a_refusal_lists_so_many_fields_and_no_more() {
    let people = vec!["0"; 1025].join(",");
    let rejected = decode(&promote(&format!("[{people}]"))).unwrap_err();
    assert_eq!(rejected.error.details.len(), MAX_DETAILS);
    assert!(rejected.error.message.contains("More than 32 fields"));
}

#[test]
fn the_command_can_be_named_although_its_body_breaks_off() {
    let rejected = decode(r#"{"id":"a","session":"s","type":"GetGroup","payload":{"#).unwrap_err();
    assert_eq!(rejected.error.code, ErrorCode::InvalidJson);
    assert_eq!(rejected.command_id.unwrap().as_str(), "a");
    assert_eq!(rejected.session.unwrap().as_str(), "s");
    assert_eq!(rejected.command_type.as_deref(), Some("GetGroup"));
}

#[test]
fn nothing_of_a_value_is_quoted() {
    let secret = "491701234567@c.us";
    for body in [
        promote(&format!(r#"[{{"{secret}":1}}]"#)),
        promote(&format!(r#"["{secret}","{secret}"]"#)),
        promote(&format!(r#"["+{secret}"]"#)),
        promote("[]").replace("PromoteAdmin", secret),
        promote("[]").replace(
            r#""groupId""#,
            &format!(r#""{secret}":1,"{secret}":2,"groupId""#),
        ),
        format!("\"{secret}\""),
    ] {
        let rejected = decode(&body).unwrap_err();
        assert!(
            !format!("{:?}", rejected.error).contains("701234567"),
            "{rejected:#?}"
        );
    }
}

#[test]
fn huge_and_deep_bodies_are_refused_and_bounded() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let (code, _) = refusal(&deep(10_000));
    assert_eq!(code, ErrorCode::InvalidJson);
    let (code, details) = refusal(&promote(&deep(10_000)));
    assert_eq!(code, ErrorCode::InvalidJson);
    assert_eq!(
        details,
        [("/payload".to_owned(), "nests more than 32 deep".to_owned())]
    );
    // An unknown field is skipped, so its depth is harmless.
    let ignored = format!(r#"{{"x":{},"#, deep(10_000));
    assert!(decode(&promote(r#"["491700000001@c.us"]"#).replacen('{', &ignored, 1)).is_ok());

    let people = vec!["{}"; 5_000_000].join(",");
    let body = format!(r#"{{"payload":{{"participants":[{people}]}},"session":"s"}}"#);
    let rejected = decode(&body).unwrap_err();
    assert_eq!(rejected.error.code, ErrorCode::InvalidJson);
    assert_eq!(
        rejected.session.unwrap().as_str(),
        "s",
        "read after the fault"
    );

    let long = format!("\"{}\"", "é".repeat(8 << 20));
    let (code, details) = refusal(&promote("[]").replace("\"123123123123@g.us\"", &long));
    assert_eq!(code, ErrorCode::InvalidPayload);
    assert_eq!(details.len(), 1, "the group: {details:?}");
}

#[expect(clippy::print_stdout, reason = "a measurement, to be read by a person")]
/// Prints the cost of decoding; asserts nothing, since machines differ.
#[test]
fn the_cost_of_a_typical_command_is_printed() {
    let decoder = decoder();
    let body = promote(r#"[{"id":"491700000001@c.us"},{"id":"491700000002@c.us"}]"#);
    let incoming = RawCommand {
        body: body.as_bytes(),
        session: Some("s"),
        ..RawCommand::default()
    };
    let rounds = 20_000_u32;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(decoder.decode(std::hint::black_box(&incoming))).unwrap();
    }
    println!("{:?} per command", start.elapsed() / rounds);
}

#[test]
fn the_schema_of_every_payload_can_be_compiled() {
    let decoder = Decoder::new();
    for &command in CommandType::ALL {
        assert!(decoder.schema(command).is_some(), "{}", command.as_str());
    }
}
