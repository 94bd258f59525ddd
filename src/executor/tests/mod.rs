//! The executor with a scripted engine, over a real SQLite store.

mod bounds;
pub(in crate::executor) mod scripted;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use serde_json::json;

use crate::config::Config;
use crate::contract::{CommandType, ErrorCode, Reply};
use crate::engines::Found;
use crate::store::ledger::Claim;

use super::{Accepted, Cause, Deferral, RetryState, Verdict};
use scripted::{Answer, Bench, accepted, create, rename};

fn reply(verdict: Verdict) -> Reply {
    match verdict {
        Verdict::Answered(outcome) => outcome.reply,
        Verdict::Deferred(deferral) => panic!("deferred: {deferral:?}"),
    }
}

fn deferral(verdict: Verdict) -> Deferral {
    match verdict {
        Verdict::Answered(outcome) => panic!("answered: {:?}", outcome.reply),
        Verdict::Deferred(deferral) => deferral,
    }
}

fn code(reply: &Reply) -> Option<ErrorCode> {
    reply.error.as_ref().map(|error| error.code)
}

#[tokio::test]
async fn a_passing_failure_is_repeated_within_the_lane() {
    let bench = Bench::new([Answer::Unavailable, Answer::Unavailable, Answer::Done]).await;
    let reply = reply(bench.run(&rename("1")).await);
    assert_eq!(code(&reply), None);
    assert_eq!(bench.calls(), 3);
}

#[tokio::test]
async fn a_lasting_failure_means_deferral_and_counts() {
    let bench = Bench::new([Answer::Unavailable; 50]).await;
    let deferral = deferral(bench.run(&rename("1")).await);
    assert!(deferral.counts);
    assert_eq!(deferral.cause.code, ErrorCode::EngineUnavailable);
    assert!(bench.calls() > 1);
}

#[tokio::test]
async fn attempts_that_are_used_up_end_with_the_engines_error() {
    let bench = Bench::new([Answer::Unavailable; 50]).await;
    let retry_state = RetryState {
        attempts: 3,
        ..bench.fresh()
    };
    let reply = reply(bench.run_after(&rename("1"), retry_state).await);
    assert_eq!(code(&reply), Some(ErrorCode::EngineUnavailable));
}

#[tokio::test]
async fn waiting_for_a_session_burns_no_attempts() {
    let bench = Bench::new([Answer::NotReady; 50]).await;
    let retry_state = RetryState {
        attempts: 3,
        ..bench.fresh()
    };
    let deferral = deferral(bench.run_after(&rename("1"), retry_state).await);
    assert!(!deferral.counts);
    assert_eq!(deferral.cause.code, ErrorCode::SessionNotReady);
}

#[tokio::test]
async fn a_failure_of_our_own_burns_no_attempts() {
    let bench = Bench::new([Answer::Own; 50]).await;
    let retry_state = RetryState {
        attempts: 3,
        ..bench.fresh()
    };
    let deferral = deferral(bench.run_after(&rename("1"), retry_state).await);
    assert!(!deferral.counts);
    assert_eq!(deferral.cause.code, ErrorCode::Internal);
}

#[tokio::test]
async fn a_command_that_expired_says_what_it_waited_for() {
    let bench = Bench::new([]).await;
    let mut late = rename("1");
    late.expires_at = Some(bench.ago(Duration::from_secs(1)));
    assert_eq!(
        code(&reply(bench.run(&late).await)),
        Some(ErrorCode::Expired)
    );
    let retry_state = RetryState {
        cause: Some(Cause {
            code: ErrorCode::SessionNotReady,
            words: "it is STARTING".to_owned(),
        }),
        ..bench.fresh()
    };
    let reply = reply(bench.run_after(&late, retry_state).await);
    assert_eq!(code(&reply), Some(ErrorCode::SessionNotReady));
    assert!(reply.error.unwrap().message.contains("it is STARTING"));
    assert_eq!(bench.calls(), 0);
}

/// The same command, after its expiry.
fn expired(bench: &Bench, command: &Accepted) -> Accepted {
    Accepted {
        expires_at: Some(bench.ago(Duration::from_secs(1))),
        ..command.clone()
    }
}

#[tokio::test]
async fn a_command_that_was_done_in_time_gets_its_answer_after_it() {
    let bench = Bench::new([Answer::Done]).await;
    let first = reply(bench.run(&create("1")).await);
    let late = expired(&bench, &create("1"));
    let second = reply(bench.run(&late).await);
    assert_eq!((code(&second), second.replayed), (None, true));
    assert_eq!(first.id, second.id);
    let other = Accepted {
        fingerprint: [9; 32],
        ..late
    };
    let third = reply(bench.run(&other).await);
    assert_eq!(code(&third), Some(ErrorCode::IdReused));
    assert_eq!(bench.calls(), 1);
}

/// By command and by the engine's knowledge of it; nothing is started in any case.
#[tokio::test]
async fn a_command_that_was_started_in_time_is_answered_with_its_outcome() {
    let table = [
        (rename("1"), Found::Unclear, Some(ErrorCode::InDoubt)),
        (create("1"), Found::Unclear, Some(ErrorCode::InDoubt)),
        (create("1"), Found::Nothing, Some(ErrorCode::Expired)),
        (create("1"), scripted::found(), None),
    ];
    for (number, (command, found, promise)) in table.into_iter().enumerate() {
        let bench = Bench::new([]).await;
        bench.finds(found);
        bench.claimed_by("worker-that-died", &command).await;
        let late = expired(&bench, &command);
        let first = reply(bench.run(&late).await);
        assert_eq!(code(&first), promise, "row {number}");
        let second = reply(bench.run(&late).await);
        assert_eq!(code(&second), promise, "row {number}");
        assert_eq!(bench.calls(), 0, "row {number}");
    }
}

#[tokio::test]
async fn what_the_engine_cannot_tell_when_the_time_is_over_is_in_doubt() {
    let settings = |config: &mut Config| config.retry.within = Duration::from_millis(50);
    let bench = Bench::with(settings, []).await;
    bench.claimed_by("worker-that-died", &create("1")).await;
    bench.leaves();
    let late = expired(&bench, &create("1"));
    let reply = reply(bench.run(&late).await);
    assert_eq!(code(&reply), Some(ErrorCode::InDoubt));
}

#[tokio::test]
async fn a_command_that_a_live_worker_is_at_is_awaited_though_its_time_is_over() {
    let settings = |config: &mut Config| config.retry.within = Duration::from_millis(50);
    let bench = Bench::with(settings, []).await;
    bench.claimed_by("worker-alive", &create("1")).await;
    bench.beat_of("worker-alive").await;
    let late = expired(&bench, &create("1"));
    assert!(!deferral(bench.run(&late).await).counts);
}

#[tokio::test]
async fn a_result_that_no_message_can_hold_is_answered_with_how_to_ask_for_less() {
    // The result is four bytes long.
    for (result_max, code_then) in [(4, None), (3, Some(ErrorCode::InvalidPayload))] {
        let most = |config: &mut Config| {
            config.amqp.message_max = (64 << 10) + result_max;
        };
        let bench = Bench::with(most, [Answer::Done; 2]).await;
        let list = accepted("1", CommandType::ListGroups, json!({}));
        let listed = reply(bench.run(&list).await);
        assert_eq!(code(&listed), code_then);
        if let Some(error) = listed.error {
            assert_eq!(error.details[0].path, "/payload/limit");
            assert!(error.message.contains("amqp.message_max"), "{error:?}");
        }
        // A change is in the ledger by then, and gets the same answer again.
        let changed = reply(bench.run(&rename("2")).await);
        let again = reply(bench.run(&rename("2")).await);
        assert_eq!(code(&changed), code_then);
        assert_eq!((changed.id, again.replayed), (again.id, true));
    }
}

#[tokio::test]
async fn a_panic_in_the_engine_is_reported_with_its_text_and_the_command_goes_on() {
    let bench = Bench::new([Answer::Panic; 50]).await;
    let deferral = deferral(bench.run(&rename("1")).await);
    assert_eq!(deferral.cause.message, "the engine panicked: as scripted");
    assert_eq!(deferral.cause.code, ErrorCode::InDoubt);
    // If repeating is harmless, the next attempt simply repeats it.
    bench.script([Answer::Done]);
    assert_eq!(code(&reply(bench.run(&rename("1")).await)), None);
}

#[tokio::test]
async fn a_refusal_is_final_and_comes_again_when_the_command_does() {
    let bench = Bench::new([Answer::Refused]).await;
    let first = reply(bench.run(&rename("1")).await);
    let second = reply(bench.run(&rename("1")).await);
    assert_eq!(code(&first), Some(ErrorCode::NotAllowed));
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.id, second.id);
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn an_id_with_another_payload_is_refused() {
    let bench = Bench::new([Answer::Done]).await;
    reply(bench.run(&rename("1")).await);
    let mut other = rename("1");
    other.fingerprint = [9; 32];
    assert_eq!(
        code(&reply(bench.run(&other).await)),
        Some(ErrorCode::IdReused)
    );
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn fifty_deliveries_of_one_command_have_one_effect_and_fifty_answers() {
    let bench = Arc::new(Bench::new([Answer::Slow]).await);
    let command = create("1");
    let answers = join_all((0..50).map(|_| bench.run(&command))).await;
    let replies: Vec<_> = answers.into_iter().map(reply).collect();
    let replayed = replies.iter().filter(|reply| reply.replayed).count();
    let same = replies
        .iter()
        .filter(|reply| reply.id == replies[0].id)
        .count();
    // In text form: the record keeps milliseconds, as the wire format does.
    let at = |reply: &Reply| reply.timestamp.to_string();
    let at = replies
        .iter()
        .filter(|reply| at(reply) == at(&replies[0]))
        .count();
    assert_eq!(replies.iter().find_map(|it| it.error.clone()), None);
    assert_eq!(
        (bench.calls(), replies.len(), replayed, same, at),
        (1, 50, 49, 50, 50)
    );
}

/// The documented outcome of a command that a dead worker left as started, by command and by the engine's
/// knowledge of it.
#[tokio::test]
async fn a_command_left_behind_by_a_dead_worker_ends_as_promised() {
    let table = [
        // (repeating is harmful, the engine's finding, the documented outcome, calls of the engine)
        (false, Found::Unclear, None, 1),
        (true, Found::Nothing, None, 1),
        (true, scripted::found(), None, 0),
        (true, Found::Unclear, Some(ErrorCode::InDoubt), 0),
    ];
    for (number, (harmful, found, promise, calls)) in table.into_iter().enumerate() {
        let bench = Bench::new([Answer::Done]).await;
        bench.finds(found);
        let command = if harmful { create("1") } else { rename("1") };
        let claimed = bench.claimed_by("worker-that-died", &command).await;
        assert!(matches!(claimed, Claim::New));
        let reply = reply(bench.run(&command).await);
        assert_eq!(
            (code(&reply), bench.calls()),
            (promise, calls),
            "row {number}"
        );
        assert!(!reply.replayed, "row {number}");
    }
}

#[tokio::test]
async fn a_command_that_a_live_worker_is_at_waits_for_it() {
    let bench = Bench::new([Answer::Done]).await;
    bench.claimed_by("worker-alive", &rename("1")).await;
    bench.beat_of("worker-alive").await;
    let deferral = deferral(bench.run(&rename("1")).await);
    assert!(!deferral.counts);
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn a_command_that_a_live_worker_has_left_does_not_wait_for_it() {
    let settings = |config: &mut Config| config.retry.within = Duration::ZERO;
    let first = Bench::with(settings, [Answer::Silence]).await;
    first.beat().await;
    let verdict = first.run(&rename("1")).await;
    assert!(verdict.is_open());
    let second = first.beside([Answer::Done]).await;
    let waiting = deferral(first.beside([]).await.run(&rename("1")).await);
    assert!(!waiting.counts, "another worker is executing it");
    first.leave(&rename("1")).await;
    assert_eq!(code(&reply(second.run(&rename("1")).await)), None);
    assert_eq!((first.calls(), second.calls()), (1, 1));
    // What is done stays done.
    first.leave(&rename("1")).await;
    assert!(reply(second.run(&rename("1")).await).replayed);
}

#[tokio::test]
async fn an_answer_that_never_came_is_looked_for_and_not_repeated_blindly() {
    let bench = Bench::new([Answer::Silence]).await;
    bench.finds(scripted::found());
    let reply = reply(bench.run(&create("1")).await);
    assert_eq!(code(&reply), None);
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn while_the_store_is_down_nothing_is_begun_or_decided() {
    let bench = Bench::new([Answer::Done]).await;
    assert!(bench.run_in_outage(&rename("1")).await.is_err());
    assert_eq!(bench.calls(), 0);
    assert_eq!(code(&reply(bench.run(&rename("1")).await)), None);
}

#[tokio::test]
async fn what_the_engine_did_is_recorded_once_the_store_is_back() {
    let bench = Bench::new([Answer::DoneUnrecorded]).await;
    let first = reply(bench.run(&create("1")).await);
    assert_eq!((code(&first), first.replayed), (None, false));
    // Not done again, and not in doubt either.
    assert_eq!(bench.calls(), 1);
    assert!(reply(bench.run(&create("1")).await).replayed);
}
