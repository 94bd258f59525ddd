//! An operator's deeds, one after the other by chance, while commands flow: kills, stops, alarms, restarts,
//! deletions. In the end each command is answered, none was done twice, each group's order was kept, each
//! event reached its endpoints, and everything is ready again by itself.
//!
//! What a deed does stands in `table`, what it is done to in `installation`.

mod installation;
mod table;

mod own_node {
    use std::time::{Duration, Instant};

    use rand::Rng as _;
    use rand::seq::SliceRandom as _;

    use super::installation::Installation;
    use super::table::{self, Deed};
    use crate::sharing;
    use crate::torture::{self, Chance};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_an_operator_does_each_command_is_answered_and_done_once() {
        let chance = Chance::usually(21);
        println!("seed {}", chance.seed);
        let mut installation = Installation::start(chance).await;
        let (producer, tide) = installation.flow();
        let mut load = sharing::load(&producer).await;
        let deeds = async {
            go_through(&mut installation).await;
            tide.ebb();
        };
        tokio::join!(tide.feed(&mut load, &producer), deeds);
        installation.assert_whole(&load).await;
    }

    /// All deeds in turn, in an order left to chance, until the time is over.
    async fn go_through(installation: &mut Installation) {
        let begun = Instant::now();
        let most = torture::duration(Duration::from_secs(20));
        let mut left: Vec<&Deed> = Vec::new();
        while begun.elapsed() < most {
            if left.is_empty() {
                left.extend(table::of(installation));
                left.shuffle(&mut installation.chance.rng);
            }
            let Some((name, act)) = left.pop() else {
                panic!("no deed has such a name");
            };
            println!("{:>6.1} s: {name}", begun.elapsed().as_secs_f32());
            act(installation).await;
            // Now and then the next one comes before the last one is over.
            let pause = installation.chance.rng.random_range(0..3_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            installation.look_after();
        }
    }
}
