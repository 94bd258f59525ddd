use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::contract::{CommandType, ErrorCode};

const SECOND: Duration = Duration::from_secs(1);

fn accounts(limited: bool) -> Accounts {
    let bucket = |burst, refill| config::Bucket {
        burst: NonZeroU32::new(burst).unwrap(),
        refill,
    };
    let settings = config::Safety {
        limits: config::Limits::On,
        create_group: bucket(2, 60 * SECOND),
        add_participants: bucket(5, 10 * SECOND),
        change: bucket(1_000, SECOND),
        read: bucket(1_000, SECOND),
        pause_min: 10 * SECOND,
        pause_max: 35 * SECOND,
    };
    Accounts::new(&settings, limited)
}

fn session(name: &str) -> SessionName {
    name.parse().unwrap()
}

fn create() -> Command {
    let payload = json!({"name": "x", "participants": ["15550000009@c.us"]});
    CommandType::CreateGroup.read(payload).unwrap()
}

fn add(people: usize) -> Command {
    let person = |n: usize| format!("1555000{n:04}@c.us");
    let people: Vec<_> = (0..people).map(person).collect();
    let payload = json!({"groupId": "120363000000000001@g.us", "participants": people});
    CommandType::AddParticipants.read(payload).unwrap()
}

fn list() -> Command {
    CommandType::ListGroups.read(json!({})).unwrap()
}

/// How long a command has to wait, and the error code if it waits too long.
fn wait(accounts: &Accounts, name: &str, command: &Command) -> Option<(Duration, ErrorCode)> {
    let error = accounts.admit(&session(name), command).err()?;
    let after = match &error {
        EngineError::RateLimited { after, .. } | EngineError::NotReady { after, .. } => *after,
        other => panic!("{other}"),
    };
    Some((after.unwrap(), error.code()))
}

fn rate_limited(after: Option<Duration>) -> Result<(), EngineError> {
    let message = "rate-overlimit".to_owned();
    Err(EngineError::RateLimited { message, after })
}

fn restricted(after: Option<Duration>) -> Result<(), EngineError> {
    let message = "banned".to_owned();
    Err(EngineError::Restricted { message, after })
}

#[tokio::test(start_paused = true)]
async fn each_account_and_each_kind_has_a_bucket_of_its_own() {
    let accounts = accounts(true);
    for _ in 0..2 {
        assert_eq!(wait(&accounts, "one", &create()), None);
    }
    let limited = Some((60 * SECOND, ErrorCode::RateLimited));
    assert_eq!(wait(&accounts, "one", &create()), limited);
    assert_eq!(wait(&accounts, "two", &create()), None);
    assert_eq!(wait(&accounts, "one", &add(3)), None);
    assert_eq!(wait(&accounts, "one", &list()), None);
    tokio::time::advance(60 * SECOND).await;
    assert_eq!(wait(&accounts, "one", &create()), None);
    assert_eq!(wait(&accounts, "one", &create()), limited);
}

#[tokio::test(start_paused = true)]
async fn people_are_counted_and_more_than_ever_fits_takes_a_full_bucket() {
    let accounts = accounts(true);
    assert_eq!(wait(&accounts, "one", &add(4)), None);
    let limited = Some((10 * SECOND, ErrorCode::RateLimited));
    assert_eq!(wait(&accounts, "one", &add(2)), limited);
    tokio::time::advance(40 * SECOND).await;
    assert_eq!(wait(&accounts, "one", &add(500)), None);
    assert_eq!(wait(&accounts, "one", &add(1)), limited);
}

#[tokio::test(start_paused = true)]
async fn without_limits_only_what_whatsapp_says_makes_an_operation_wait() {
    let accounts = accounts(false);
    for _ in 0..100 {
        assert_eq!(wait(&accounts, "one", &create()), None);
    }
    accounts.learn(
        &session("one"),
        None,
        &create(),
        &rate_limited(Some(7 * SECOND)),
    );
    let limited = Some((7 * SECOND, ErrorCode::RateLimited));
    assert_eq!(wait(&accounts, "one", &create()), limited);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_one_goes_ahead_and_the_pauses_grow_until_one_succeeds() {
    let accounts = accounts(true);
    let one = session("one");
    for pause in [10, 20, 35, 35] {
        accounts.learn(&one, None, &list(), &rate_limited(None));
        let limited = Some((pause * SECOND, ErrorCode::RateLimited));
        assert_eq!(wait(&accounts, "one", &list()), limited);
        assert_eq!(wait(&accounts, "one", &add(1)), None, "another kind");
        tokio::time::advance(pause * SECOND).await;
        assert_eq!(wait(&accounts, "one", &list()), None);
        let behind = Some((10 * SECOND, ErrorCode::RateLimited));
        assert_eq!(wait(&accounts, "one", &list()), behind, "one at a time");
        tokio::time::advance(SECOND).await;
    }
    accounts.learn(&one, None, &list(), &Ok(()));
    assert_eq!(wait(&accounts, "one", &list()), None);
    accounts.learn(&one, None, &list(), &rate_limited(None));
    let limited = Some((10 * SECOND, ErrorCode::RateLimited));
    assert_eq!(wait(&accounts, "one", &list()), limited);
}

#[tokio::test(start_paused = true)]
async fn a_restricted_account_does_nothing_and_its_session_is_said_not_to_be_ready() {
    let accounts = accounts(false);
    let one = session("one");
    accounts.learn(&one, None, &create(), &restricted(Some(3_600 * SECOND)));
    for command in [create(), add(1), list()] {
        let closed = Some((3_600 * SECOND, ErrorCode::SessionNotReady));
        assert_eq!(wait(&accounts, "one", &command), closed);
        assert_eq!(wait(&accounts, "two", &command), None);
    }
    tokio::time::advance(3_600 * SECOND).await;
    assert_eq!(wait(&accounts, "one", &list()), None);
    assert!(wait(&accounts, "one", &create()).is_some());
    // A refusal is an answer: the account may act again.
    let code = ErrorCode::NotAllowed;
    let message = String::new();
    let refused: Result<(), _> = Err(EngineError::Refused { code, message });
    accounts.learn(&one, None, &list(), &refused);
    assert_eq!(wait(&accounts, "one", &create()), None);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_queue_goes_to_another_worker_is_forgotten() {
    let accounts = accounts(false);
    let count = || super::restricted(&accounts.pauses.lock());
    for (name, queue) in [("one", "commands.0"), ("two", "commands.1")] {
        let answer = restricted(Some(3_600 * SECOND));
        accounts.learn(&session(name), Some(queue), &list(), &answer);
    }
    accounts.keep(|queue| queue.starts_with("commands."));
    assert_eq!(count(), 2);
    accounts.keep(|queue| queue == "commands.1");
    assert_eq!(count(), 1);
    assert_eq!(wait(&accounts, "one", &list()), None);
    assert!(wait(&accounts, "two", &list()).is_some());
}

proptest! {
    #[test]
    fn however_they_come_no_more_pass_than_the_bucket_gives(
        steps in prop::collection::vec((0_u64..30, 1_usize..8), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let accounts = accounts(true);
            let (mut seconds, mut passed) = (0, 0);
            for (pause, people) in steps {
                tokio::time::advance(Duration::from_secs(pause)).await;
                seconds += pause;
                if wait(&accounts, "one", &add(people)).is_none() {
                    passed += u64::try_from(people.min(5)).unwrap();
                }
                prop_assert!(passed <= 5 + seconds / 10, "{passed} in {seconds} s");
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_an_answer_other_than_429_ends_it() {
    let message = "as scripted".to_owned();
    let answers = [
        EngineError::Failing {
            message: message.clone(),
            is_open: true,
        },
        EngineError::Unavailable {
            message: message.clone(),
            source: None,
        },
        EngineError::Refused {
            code: ErrorCode::NotAllowed,
            message: message.clone(),
        },
    ];
    let silences = [
        EngineError::Unavailable {
            message: message.clone(),
            source: Some("connection refused".into()),
        },
        EngineError::NoAnswer {
            message: message.clone(),
        },
        EngineError::NotFetched {
            message: message.clone(),
        },
        EngineError::NotReady {
            message,
            after: None,
        },
    ];
    let learn = |error: EngineError| {
        let accounts = accounts(false);
        let one = session("one");
        accounts.learn(&one, None, &list(), &rate_limited(None));
        async move {
            tokio::time::advance(10 * SECOND).await;
            // The one that is tried after the pause.
            assert_eq!(wait(&accounts, "one", &list()), None);
            accounts.learn::<()>(&session("one"), None, &list(), &Err(error));
            wait(&accounts, "one", &list()).is_some()
        }
    };
    for answer in answers {
        let text = format!("{answer:?}");
        assert!(!learn(answer).await, "{text}");
    }
    for silence in silences {
        let text = format!("{silence:?}");
        assert!(learn(silence).await, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_sessions_are_looked_through_seldom_and_forgotten_when_their_buckets_are_full()
{
    let accounts = accounts(true);
    let bucket = &accounts.buckets.as_ref().unwrap()[Kind::CreateGroup as usize];
    let most = || bucket.most.load(Ordering::Relaxed);
    let mut looks = 0;
    for n in 0..10 * MANY {
        let before = most();
        accounts
            .admit(&session(&format!("s{n}")), &create())
            .unwrap();
        looks += usize::from(most() != before);
    }
    // Each has doubled the number at which the next one is due.
    assert!((3..=4).contains(&looks), "{looks}");
    assert_eq!(bucket.sessions.len(), 10 * MANY);
    tokio::time::advance(600 * SECOND).await;
    for n in 0..=most() - 10 * MANY {
        accounts
            .admit(&session(&format!("t{n}")), &create())
            .unwrap();
    }
    accounts.admit(&session("last"), &create()).unwrap();
    assert!(
        bucket.sessions.len() < 10 * MANY,
        "{}",
        bucket.sessions.len()
    );
}
