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
    let error = Cause::of(&answer(status, body)).judge(Intent::Change, "here");
    (error.code(), error.disposition())
}

const RETRY: Disposition = Disposition::Retry { after: None };

#[test]
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
fn patience_lasts_as_long_as_whatsapp_says() {
    let body =
        json!({"exception": {"message": "rate-overlimit", "data": {"code": 429, "backoff": 30}}});
    let error = Cause::of(&answer(500, &body)).judge(Intent::Change, "here");
    let after = Some(std::time::Duration::from_secs(30));
    assert_eq!(error.disposition(), Disposition::Retry { after });
}

#[test]
fn a_read_whose_end_nobody_saw_is_simply_asked_again() {
    for cause in [Cause::Status(500), Cause::Unreadable("it is no JSON")] {
        let error = cause.judge(Intent::Read, "here");
        assert_eq!(error.disposition(), RETRY);
    }
    let error = Cause::Unreadable("it is no JSON").judge(Intent::Change, "here");
    assert_eq!(error.disposition(), Disposition::Unknown);
}

#[test]
fn the_words_of_whatsapp_web_are_understood() {
    let words = |text: &str| {
        Cause::Words(text.to_owned())
            .judge(Intent::Change, "here")
            .code()
    };
    let admin = "AddParticipantsError: You have no admin rights to add a participant to a group";
    assert_eq!(words(admin), ErrorCode::NotAllowed);
    assert_eq!(
        words("AddParticipantsError: something else"),
        ErrorCode::EngineRejected
    );
}
