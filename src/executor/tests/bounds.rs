//! The number of attempts, and the final answer.

use super::scripted::{Answer, Bench, create, found, read, rename};
use super::*;

#[tokio::test]
async fn what_must_not_be_done_twice_is_begun_twice_at_most() {
    let bench = Bench::new([Answer::FailingOpen; 50]).await;
    for _ in 0..50 {
        bench.finds(Found::NotSeen);
    }
    let first = reply(bench.run(&create("1")).await);
    assert_eq!(code(&first), Some(ErrorCode::InDoubt));
    assert!(first.error.unwrap().message.contains("as scripted"));
    // It is not started again when the command is redelivered, to any worker.
    let again = reply(bench.run(&create("1")).await);
    assert_eq!(code(&again), Some(ErrorCode::InDoubt));
    assert_eq!(bench.calls(), 2);
    assert_eq!(bench.searches(), 3);
}

#[tokio::test]
async fn a_beginning_that_certainly_did_nothing_does_not_count() {
    let answers = [
        Answer::Silence,
        Answer::Unavailable,
        Answer::NotReady,
        Answer::Done,
    ];
    let bench = Bench::new(answers).await;
    for _ in 0..3 {
        bench.finds(Found::NotSeen);
    }
    assert_eq!(code(&reply(bench.run(&create("1")).await)), None);
    // But the first one may still have had its effect, so it is searched for each time.
    assert_eq!((bench.calls(), bench.searches()), (4, 3));
}

#[tokio::test]
async fn what_certainly_had_no_effect_is_begun_again_however_often() {
    let answers = [
        Answer::Silence,
        Answer::Silence,
        Answer::Silence,
        Answer::Done,
    ];
    let bench = Bench::new(answers).await;
    for _ in 0..3 {
        bench.finds(Found::Nothing);
    }
    assert_eq!(code(&reply(bench.run(&create("1")).await)), None);
    assert_eq!((bench.calls(), bench.searches()), (4, 3));
}

#[tokio::test]
async fn a_command_begun_twice_may_still_be_found() {
    let bench = Bench::new([Answer::Silence; 2]).await;
    bench.finds(Found::NotSeen);
    bench.finds(found());
    assert_eq!(code(&reply(bench.run(&create("1")).await)), None);
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn what_cannot_be_searched_for_ends_in_doubt() {
    let settings = |config: &mut Config| {
        config.retry.attempts = 0;
        config.retry.within = Duration::from_millis(20);
    };
    let bench = Bench::with(settings, [Answer::Silence]).await;
    bench.claimed_by("worker-that-died", &create("1")).await;
    bench.fails_searches();
    let reply = reply(bench.run(&create("1")).await);
    assert_eq!(code(&reply), Some(ErrorCode::InDoubt));
    assert!(reply.error.unwrap().message.contains("as scripted"));
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn a_lasting_failure_is_deferred_twice_at_most() {
    for (answer, promise) in [
        (Answer::Failing, ErrorCode::EngineUnavailable),
        (Answer::FailingOpen, ErrorCode::InDoubt),
    ] {
        let settings = |config: &mut Config| {
            config.retry.attempts = 10;
            config.retry.within = Duration::from_millis(20);
        };
        let bench = Bench::with(settings, [answer; 50]).await;
        let retry_state = |attempts| RetryState {
            attempts,
            ..bench.fresh()
        };
        for attempts in 0..2 {
            let deferral = deferral(bench.run_after(&rename("1"), retry_state(attempts)).await);
            assert!(deferral.counts);
        }
        let reply = reply(bench.run_after(&rename("1"), retry_state(2)).await);
        assert_eq!(code(&reply), Some(promise));
        assert_eq!(reply.error.unwrap().message, "as scripted");
    }
}

#[tokio::test]
async fn a_read_is_answered_with_the_failure_and_not_deferred() {
    for (answer, promise) in [
        (Answer::Unavailable, ErrorCode::EngineUnavailable),
        (Answer::NotReady, ErrorCode::SessionNotReady),
        (Answer::Failing, ErrorCode::EngineUnavailable),
        (Answer::Silence, ErrorCode::InDoubt),
    ] {
        let bench = Bench::new([answer; 100]).await;
        let reply = reply(bench.run(&read("1")).await);
        assert_eq!(code(&reply), Some(promise));
        assert_eq!(reply.error.unwrap().message, "as scripted");
        assert!(bench.calls() > 1);
    }
}

#[tokio::test]
async fn a_read_waits_for_patience_and_for_our_own_store() {
    for answer in [Answer::Patience, Answer::Own] {
        let bench = Bench::new([answer; 100]).await;
        assert!(!deferral(bench.run(&read("1")).await).counts);
    }
}

#[tokio::test]
async fn a_command_that_expired_says_what_failed_last() {
    let bench = Bench::new([]).await;
    let late = expired(&bench, &rename("1"));
    let retry_state = RetryState {
        cause: Some(Cause {
            code: ErrorCode::EngineUnavailable,
            words: "WAHA says: r".to_owned(),
        }),
        ..bench.fresh()
    };
    let reply = reply(bench.run_after(&late, retry_state).await);
    assert_eq!(code(&reply), Some(ErrorCode::Expired));
    assert!(reply.error.unwrap().message.contains("WAHA says: r"));
}
