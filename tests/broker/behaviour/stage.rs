//! An engine, a worker on it, and a producer that sends commands and sees replies and events.

use std::sync::atomic::{AtomicU32, Ordering};

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::waha::events::Webhook;
use groupmq_test_support::waha::{KEY, Personality, Quirks, Waha};
use groupmq_test_support::worker::Options;
use serde_json::{Value, json};

use crate::scene::{PATIENCE, Scene};

/// The account of the session `default`, and of `second`.
pub(crate) const ME: &str = "15550000001@c.us";
pub(crate) const SECOND: &str = "15550000002@c.us";

/// The key that webhooks are signed with.
pub(crate) const HMAC_KEY: &str = "a-key-for-webhooks";

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sandbox,
    Webjs,
    Noweb,
    Gows,
}

impl Kind {
    const fn personality(self) -> Option<Personality> {
        match self {
            Self::Sandbox => None,
            Self::Webjs => Some(Personality::Webjs),
            Self::Noweb => Some(Personality::Noweb),
            Self::Gows => Some(Personality::Gows),
        }
    }
}

/// An engine with a worker.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) kind: Kind,
    pub(crate) scene: Scene,
    pub(crate) waha: Option<Waha>,
    /// Whether the engine has the settings that WAHA got from 2026.7 on.
    pub(crate) has_recent_settings: bool,
    commands: AtomicU32,
}

/// What a worker needs for a WAHA server.
pub(crate) fn on(waha: &Waha, options: Options) -> Options {
    options
        .set("engine.kind", "waha")
        .set("engine.waha.url", waha.url())
        .set("engine.waha.api_key", KEY)
        .set("engine.waha.settle", "3s")
        .set("engine.waha.health_interval", "300ms")
        .set("engine.waha.reconcile.lag", "300ms")
        .set("engine.waha.intake.enabled", "true")
        .set("engine.waha.intake.hmac_key", HMAC_KEY)
        .set("safety.limits", "off")
}

/// Has a server send its webhooks to a worker.
pub(crate) fn hook(waha: &Waha, scene: &Scene) {
    waha.hook(Webhook {
        host: scene.worker.health().to_string(),
        path: "/engines/waha/events".to_owned(),
        key: HMAC_KEY.to_owned(),
    });
}

impl Stage {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, |options| options).await
    }

    pub(crate) async fn with(kind: Kind, settings: impl FnOnce(Options) -> Options) -> Self {
        let quirks = Quirks {
            recent: true,
            ..Quirks::default()
        };
        Self::set_up(kind, quirks, settings).await
    }

    /// With WAHA set up in some way before the worker starts.
    pub(crate) async fn set_up(
        kind: Kind,
        quirks: Quirks,
        settings: impl FnOnce(Options) -> Options,
    ) -> Self {
        let waha = match kind.personality() {
            None => None,
            Some(personality) => Some(Waha::start(personality).await.unwrap()),
        };
        if let Some(waha) = &waha {
            waha.set(quirks);
        }
        let scene = Scene::shared_with(|options| {
            let options = match &waha {
                None => options,
                Some(waha) => on(waha, options),
            };
            settings(options)
        })
        .await;
        if let Some(waha) = &waha {
            hook(waha, &scene);
        }
        Self {
            kind,
            scene,
            waha,
            has_recent_settings: kind == Kind::Sandbox || quirks.recent,
            commands: AtomicU32::new(0),
        }
    }

    /// WAHA with groups that are addressed by lid.
    pub(crate) async fn by_lid(kind: Kind) -> Self {
        let quirks = Quirks {
            lids: true,
            recent: true,
            ..Quirks::default()
        };
        Self::set_up(kind, quirks, |options| options).await
    }

    /// WAHA's NOWEB with its store, as it is usually run.
    pub(crate) async fn stored(lids: bool) -> Self {
        let quirks = Quirks {
            store: true,
            recent: true,
            lids,
            ..Quirks::default()
        };
        Self::set_up(Kind::Noweb, quirks, |options| options).await
    }

    /// WAHA with everything that is known to be odd about it, and before the settings of 2026.7.
    pub(crate) async fn odd(kind: Kind) -> Self {
        let quirks = Quirks {
            lids: true,
            store: true,
            newer: true,
            webjs_lock_as_add_mode: true,
            secret_phones: true,
            post_is_200: true,
            invite_is_link: true,
            quoted_texts: true,
            stubs: true,
            older_events: true,
            doubled_events: true,
            repeated_posts: true,
            ..Quirks::default()
        };
        Self::set_up(kind, quirks, |options| options).await
    }

    /// The server, where there is one.
    pub(crate) fn waha(&self) -> &Waha {
        self.waha.as_ref().unwrap()
    }

    /// Sends a command by a session, and waits for its reply.
    pub(crate) async fn ask(&self, session: &str, name: &str, payload: Value) -> Value {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let id = format!("{name}-{number}");
        let command = Command::new(&id, name, session, &payload);
        let reply = self.scene.producer.call(command).await.unwrap();
        let engine = if self.waha.is_some() {
            "WAHA"
        } else {
            "SANDBOX"
        };
        assert_eq!(reply["engine"], engine, "{reply}");
        reply
    }

    /// As [`Stage::ask`], for the result.
    pub(crate) async fn result(&self, session: &str, name: &str, payload: Value) -> Value {
        let reply = self.ask(session, name, payload).await;
        assert_eq!(reply["status"], "ok", "{:?}: {reply}", self.kind);
        reply["result"].clone()
    }

    /// As [`Stage::ask`], for the error's code.
    pub(crate) async fn refusal(&self, session: &str, name: &str, payload: Value) -> String {
        let reply = self.ask(session, name, payload).await;
        let code = reply["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{:?} {name}: {reply}", self.kind))
            .to_owned()
    }

    /// A group of the session `default`, whose id is told.
    pub(crate) async fn group(&self, name: &str, people: &[&str]) -> String {
        let payload = json!({"name": name, "participants": people});
        let made = self.result("default", "CreateGroup", payload).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a session has seen so many events of a group, and tells them in short.
    pub(crate) async fn events(&self, session: &str, group: &str, count: usize) -> Vec<String> {
        let enough = |seen: &Seen| {
            let events = of_group(seen, session, group);
            (events.len() >= count).then_some(events)
        };
        let events = self.scene.producer.until(PATIENCE, enough).await;
        let events =
            events.unwrap_or_else(|_| of_group(self.scene.producer.seen(), session, group));
        let numbers: Vec<_> = events
            .iter()
            .map(|it| it["payload"]["sequence"].clone())
            .collect();
        let wanted: Vec<_> = (1..=events.len()).map(|n| json!(n)).collect();
        assert_eq!(numbers, wanted, "{:?}: gaps in {events:#?}", self.kind);
        events.iter().map(short).collect()
    }

    /// Sees that all requests were as WAHA documents them.
    pub(crate) fn assert_valid(&self) {
        if let Some(waha) = &self.waha {
            assert_eq!(waha.violations(), Vec::<String>::new());
            assert!(!waha.asked().is_empty());
        }
    }
}

/// A session's events of a group, in the order in which they came.
pub(crate) fn of_group(seen: &Seen, session: &str, group: &str) -> Vec<Value> {
    let about = |event: &Value| {
        let payload = &event["payload"];
        let id = [&payload["chatId"], &payload["group"]["id"]];
        event["session"] == session && id.iter().any(|id| **id == group)
    };
    seen.events().into_iter().filter(about).collect()
}

/// An event in short: name, kind, who, what changed, and the command that caused it.
pub(crate) fn short(event: &Value) -> String {
    let payload = &event["payload"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words = vec![text(&event["event"]), text(&payload["type"])];
    words.extend([text(&payload["action"]), number(&payload["requesterId"])]);
    let people = payload["recipientIds"].as_array().into_iter().flatten();
    words.extend(people.map(number));
    let people = payload["participants"].as_array().into_iter().flatten();
    words.extend(people.map(|it| format!("{}:{}", number(&it["id"]), text(&it["role"]))));
    for field in [
        "subject",
        "description",
        "picture",
        "infoAdminOnly",
        "messagesAdminOnly",
        "membersCanAddNewMember",
        "newMembersApprovalRequired",
        "membersCanShareHistory",
        "disappearingSeconds",
    ] {
        let value = &payload["group"][field];
        if event["event"] == "group.v2.update" && !value.is_null() {
            words.push(format!("{field}={value}"));
        }
    }
    if event["event"] == "group.v2.update" && !payload["group"]["invite"].is_null() {
        words.push("invite".to_owned());
    }
    if payload["reconciled"] == true {
        words.push("reconciled".to_owned());
    }
    if let Some((name, _)) = text(&payload["commandId"]).rsplit_once('-') {
        words.push(format!("by {name}"));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// The last digits of a phone that tests use.
fn number(id: &Value) -> String {
    let id = id.as_str().unwrap_or_default();
    id.strip_prefix("4917000000").map_or_else(
        || id.split('@').next().unwrap_or_default().to_owned(),
        |rest| rest.split('@').next().unwrap_or_default().to_owned(),
    )
}

/// Outcomes in short: `01 ok 200`.
pub(crate) fn outcomes(result: &Value) -> Vec<String> {
    let outcomes = result.as_array().unwrap().iter();
    let short = |it: &Value| {
        format!(
            "{} {} {}",
            number(&it["id"]),
            it["outcome"].as_str().unwrap(),
            it["code"]
        )
    };
    outcomes.map(short).collect()
}
