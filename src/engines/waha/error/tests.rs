//! The table, row by row.

use serde_json::{Value, json};

use super::*;
use crate::engines::Disposition;

fn answer(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        retry_after: None,
        content_type: None,
        body: body.to_string().into_bytes(),
        truncated: false,
    }
}

/// Code and disposition of a change that was answered so.
fn judged(status: u16, body: &Value) -> (ErrorCode, Disposition) {
    let error =
        FailureCause::from_answer(&answer(status, body)).into_engine_error(Intent::Change, "here");
    (error.code(), error.disposition())
}

const RETRY: Disposition = Disposition::Retry { after: None };

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_answer_has_its_code_and_verdict() {
    let noweb = |code: u16| json!({"exception": {"message": "…", "data": code}});
    let gows = |code: u16| json!({"exception": {"message": "13 INTERNAL", "details": format!("info query returned status {code}: …")}});
    let status = json!({"error": "Session status is not as expected. Try again later or restart the session",
        "session": "default", "status": "FAILED", "expected": ["WORKING"]});
    let rows = [
        (
            401,
            json!({"message": "Unauthorized"}),
            ErrorCode::EngineUnavailable,
            RETRY,
        ),
        (
            404,
            json!({"message": "We didn't find a session with name 'x'"}),
            ErrorCode::SessionNotFound,
            Disposition::Reject,
        ),
        (
            404,
            json!({"message": "Cannot GET /api/x/groups"}),
            ErrorCode::NotSupported,
            Disposition::Reject,
        ),
        (404, json!("<html>"), ErrorCode::EngineUnavailable, RETRY),
        // The path that is quoted says nothing.
        (
            404,
            json!({"message": "Cannot POST /api/api/session-group/groups"}),
            ErrorCode::NotSupported,
            Disposition::Reject,
        ),
        (
            422,
            json!({"error": "Session \"default\" does not exist", "session": "default"}),
            ErrorCode::SessionNotFound,
            Disposition::Reject,
        ),
        (
            422,
            json!({"message": "WAHA Core support only 'default' session. You tried to access 'nosuch' session (base64: bm9zdWNo).", "error": "Unprocessable Entity", "statusCode": 422}),
            ErrorCode::SessionNotFound,
            Disposition::Reject,
        ),
        (422, status, ErrorCode::SessionNotReady, RETRY),
        (
            422,
            json!({"message": "The method is not implemented by the engine."}),
            ErrorCode::NotSupported,
            Disposition::Reject,
        ),
        (
            400,
            json!({"message": ["subject must be a string"]}),
            ErrorCode::EngineRejected,
            Disposition::Reject,
        ),
        (429, json!({}), ErrorCode::RateLimited, RETRY),
        (302, json!({}), ErrorCode::EngineUnavailable, RETRY),
        (503, json!({}), ErrorCode::EngineUnavailable, RETRY),
        (500, json!({}), ErrorCode::InDoubt, Disposition::Unknown),
        (
            504,
            json!("<html>"),
            ErrorCode::InDoubt,
            Disposition::Unknown,
        ),
        (
            500,
            noweb(400),
            ErrorCode::EngineRejected,
            Disposition::Reject,
        ),
        (
            500,
            gows(400),
            ErrorCode::EngineRejected,
            Disposition::Reject,
        ),
        (500, noweb(403), ErrorCode::NotAllowed, Disposition::Reject),
        (500, gows(401), ErrorCode::NotAllowed, Disposition::Reject),
        (
            500,
            gows(404),
            ErrorCode::GroupNotFound,
            Disposition::Reject,
        ),
        (
            500,
            json!({"exception": {"message": "Group with id '1@g.us' not found"}}),
            ErrorCode::GroupNotFound,
            Disposition::Reject,
        ),
        (
            500,
            json!({"exception": {"message": "rate-overlimit"}}),
            ErrorCode::RateLimited,
            RETRY,
        ),
        (500, noweb(429), ErrorCode::RateLimited, RETRY),
        (500, noweb(463), ErrorCode::SessionNotReady, RETRY),
        (500, noweb(409), ErrorCode::EngineUnavailable, RETRY),
        (500, gows(503), ErrorCode::EngineUnavailable, RETRY),
        // NOWEB has waited for WhatsApp in vain: it may have been done.
        (500, noweb(408), ErrorCode::InDoubt, Disposition::Unknown),
    ];
    for (status, body, code, disposition) in rows {
        assert_eq!(
            judged(status, &body),
            (code, disposition),
            "{status} {body}"
        );
    }
}

#[test]
fn a_broken_server_is_distinguished_from_an_unreachable_one() {
    let exception = |name: &str, message: &str| {
        let body = json!({"statusCode": 500, "exception": {"message": message, "name": name}});
        FailureCause::from_answer(&answer(500, &body))
    };
    for (name, message) in [
        (
            "TypeError",
            "Cannot read properties of undefined (reading 'map')",
        ),
        ("TypeError", "groupChat.getInviteCode is not a function"),
        ("r", "r"),
        ("Error", "Lid is missing in chat table"),
    ] {
        let error = exception(name, message).into_engine_error(Intent::Read, "here");
        assert!(error.is_lasting(), "{message}");
        assert_eq!(error.code(), ErrorCode::EngineUnavailable);
        assert!(error.to_string().contains(message), "{error}");
        // Whether a change was made before the exception, nobody knows.
        let error = exception(name, message).into_engine_error(Intent::Change, "here");
        assert!(error.is_lasting(), "{message}");
        assert_eq!(error.disposition(), Disposition::Unknown);
    }
    for message in ["Connection Closed", "Timed Out", "Session closed."] {
        let error = exception("Error", message).into_engine_error(Intent::Read, "here");
        assert!(!error.is_lasting(), "{message}");
        assert_eq!(error.disposition(), RETRY);
    }
    assert!(
        !FailureCause::from_answer(&answer(502, &json!({})))
            .into_engine_error(Intent::Read, "here")
            .is_lasting()
    );
}

#[test]
fn quoted_messages_of_waha_contain_no_ids() {
    let body = json!({"exception": {"message": "no chat 491700000001@c.us", "name": "TypeError"}});
    let error =
        FailureCause::from_answer(&answer(500, &body)).into_engine_error(Intent::Change, "here");
    assert!(
        error.to_string().contains("TypeError: no chat …"),
        "{error}"
    );
    let body = json!({"message": ["id +49 1700000001 must be valid"]});
    let error =
        FailureCause::from_answer(&answer(400, &body)).into_engine_error(Intent::Change, "here");
    assert!(error.to_string().contains("id … must be valid"), "{error}");
}

#[test]
fn patience_lasts_as_long_as_whatsapp_says() {
    let body =
        json!({"exception": {"message": "rate-overlimit", "data": {"code": 429, "backoff": 30}}});
    let error =
        FailureCause::from_answer(&answer(500, &body)).into_engine_error(Intent::Change, "here");
    let after = Some(std::time::Duration::from_secs(30));
    assert_eq!(error.disposition(), Disposition::Retry { after });
}

#[test]
fn a_read_without_an_answer_is_simply_repeated() {
    for cause in [
        FailureCause::Status(500),
        FailureCause::Unreadable("it is no JSON"),
    ] {
        let error = cause.into_engine_error(Intent::Read, "here");
        assert_eq!(error.disposition(), RETRY);
    }
    let error = FailureCause::Unreadable("it is no JSON").into_engine_error(Intent::Change, "here");
    assert_eq!(error.disposition(), Disposition::Unknown);
}

#[test]
fn the_words_of_whatsapp_web_are_understood() {
    let words = |text: &str| {
        FailureCause::RefusalText(text.to_owned())
            .into_engine_error(Intent::Change, "here")
            .code()
    };
    let admin = "AddParticipantsError: You have no admin rights to add a participant to a group";
    assert_eq!(words(admin), ErrorCode::NotAllowed);
    assert_eq!(
        words("AddParticipantsError: something else"),
        ErrorCode::EngineRejected
    );
}

/// The requests of a real WAHA's capture, with the statuses and bodies of their answers.
fn captured() -> Vec<Value> {
    let captures = [
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-phone/http.json"),
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-lid/http.json"),
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-store/http.json"),
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-store-lid/http.json"),
        include_str!("../../../../tests/support/data/waha-2026.2.1/gows-lid/http.json"),
    ];
    let read = |capture: &&str| serde_json::from_str::<Vec<Value>>(capture).unwrap();
    captures.iter().flat_map(read).collect()
}

#[test]
fn whatsapps_refusals_in_a_real_wahas_answers_are_distinguished_from_its_own_failures() {
    let mut refusals = 0;
    for entry in captured().iter().filter(|entry| entry["status"] == 500) {
        let note = entry["note"].as_str().unwrap();
        let message = entry["body"]["exception"]["message"].as_str().unwrap();
        let code = FailureCause::from_answer(&answer(500, &entry["body"])).whatsapp();
        // JavaScript's own words: WAHA's code failed.
        if message.starts_with("Cannot read properties")
            || message.starts_with("The first argument")
        {
            assert_eq!(code, None, "{note}: {message}");
            continue;
        }
        refusals += 1;
        let wanted: &[u16] = match note.split([':', ',']).next().unwrap() {
            "not a member" if message.starts_with("Group with id") => &[404],
            "not an admin" | "not a member" => &[401, 403],
            "unknown group" | "the second group" => &[404],
            "join-info" | "join" | "rename" => &[406],
            "leave again" => &[403],
            _ => &[400, 429, 500],
        };
        assert!(
            code.is_some_and(|code| wanted.contains(&code)),
            "{note}: {message} is {code:?}"
        );
    }
    assert!(refusals > 100, "{refusals}");
}
