//! `events tail`: what happens, as it happens.

use std::time::Duration;

use serde_json::Value;

use super::run;
use crate::scene::{Scene, create};

#[tokio::test]
async fn events_tail_prints_what_happens_and_stops_as_told() {
    let scene = Scene::shared().await;
    let act = async {
        // Until the listener has its queue, nobody hears; so more happens than it waits for.
        for n in 0..100 {
            scene
                .call(&format!("c{n}"), "CreateGroup", &create("x"))
                .await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let arguments = "events tail --event group.join --count 2 --json";
    let arguments: Vec<_> = arguments.split(' ').collect();
    let tailed = tokio::select! {
        tailed = run(&scene.options, &arguments) => tailed,
        () = act => panic!("events tail does not stop"),
    };
    assert_eq!(tailed.code, 0, "{tailed:?}");
    let read = |line| serde_json::from_str(line).unwrap();
    let events: Vec<Value> = tailed.out.lines().map(read).collect();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event["event"] == "group.join"));

    let nobody = ["events", "tail", "--session", "nobody", "--timeout", "1s"];
    let quiet = run(&scene.options, &nobody).await;
    assert_eq!((quiet.code, quiet.out.as_str()), (0, ""), "{quiet:?}");
}
