//! The newest status counts, whatever its source and in whatever order statuses arrive.

use super::*;
use crate::clock::SystemClock;

fn sessions() -> Sessions {
    Sessions::new(Duration::from_secs(10), Arc::new(SystemClock))
}

fn status(sessions: &Sessions) -> String {
    let state = sessions.state.lock();
    state.sessions.values().next().unwrap().status.clone()
}

fn record_status(sessions: &Sessions, status: &str, source: StatusSource) -> bool {
    let session = "default".parse().unwrap();
    sessions.record_status(&session, "main", status, Vec::new(), source)
}

#[test]
fn an_older_event_never_overrides_a_newer_one() {
    let told = [
        ("STARTING", 1_000),
        ("WORKING", 2_000),
        ("STOPPED", 3_000),
        ("STARTING", 4_000),
        ("WORKING", 5_000),
    ];
    for first in 0..told.len() {
        let sessions = sessions();
        let mut order = told.to_vec();
        order.rotate_left(first);
        for (status, at) in order {
            record_status(&sessions, status, StatusSource::Event(at));
        }
        assert_eq!(status(&sessions), "WORKING", "{first}");
    }
}

#[test]
fn an_event_from_before_a_list_does_not_override_it_and_has_the_server_asked_again() {
    let sessions = sessions();
    let list = StatusSource::List(Instant::now(), 5_000);
    assert!(record_status(&sessions, "WORKING", list));
    assert!(!record_status(
        &sessions,
        "STOPPED",
        StatusSource::Event(4_000)
    ));
    assert_eq!(status(&sessions), "WORKING");
    let asked = futures_util::FutureExt::now_or_never(sessions.recheck_requested());
    assert!(asked.is_some(), "the clocks may differ, so WAHA is asked");
    assert!(!record_status(
        &sessions,
        "STOPPED",
        StatusSource::Event(6_000)
    ));
    assert_eq!(status(&sessions), "STOPPED");
}

#[test]
fn a_list_that_was_asked_for_before_an_event_came_does_not_override_it() {
    let sessions = sessions();
    let asked = StatusSource::List(Instant::now(), 9_000);
    // WAHA's clock does not matter: the event came after the question.
    record_status(&sessions, "STOPPED", StatusSource::Event(2_000));
    assert!(!record_status(&sessions, "WORKING", asked));
    assert_eq!(status(&sessions), "STOPPED");
    assert!(record_status(
        &sessions,
        "WORKING",
        StatusSource::List(Instant::now(), 9_500)
    ));
}

#[test]
fn a_list_is_one_of_sessions() {
    let read = |text: &str| list(&Body::read(text.as_bytes()).unwrap()).map(|it| it.len());
    assert_eq!(read("[]"), Some(0));
    assert_eq!(
        read(r#"[{"name": "default", "status": "WORKING"}]"#),
        Some(1)
    );
    let named_oddly = r#"[{"name": "not a session!", "status": "WORKING"}]"#;
    assert_eq!(read(named_oddly), Some(0));
    for other in [
        r#"{"sessions": []}"#,
        "[1]",
        r#"[{"id": 1}]"#,
        "OK",
        "",
        "true",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn the_sessions_of_each_state_are_counted_as_they_come_change_and_go() {
    let sessions = sessions();
    let record = |n: usize, status: &str, at: i64| {
        let session = format!("s{n}").parse().unwrap();
        sessions.record_status(
            &session,
            "main",
            status,
            Vec::new(),
            StatusSource::Event(at),
        );
    };
    for n in 0..30 {
        record(n, "STARTING", 1_000);
        record(n, ["WORKING", "FAILED", "SOMETHING_NEW"][n % 3], 2_000);
        // An older one changes nothing.
        record(n, "STOPPED", 1_500);
    }
    let counted = || {
        let state = sessions.state.lock();
        let counts = state.counts.iter().filter(|(_, count)| **count > 0);
        counts.map(|(status, count)| (*status, *count)).collect()
    };
    let three: BTreeMap<_, _> = [("FAILED", 10), ("WORKING", 10), ("other", 10)].into();
    assert_eq!(three, counted());
    let mut state = sessions.state.lock();
    state.retain(|_, session| session.status != "FAILED");
    drop(state);
    assert_eq!(BTreeMap::from([("WORKING", 10), ("other", 10)]), counted());
}
