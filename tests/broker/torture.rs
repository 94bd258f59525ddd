//! How hard the tests of random failures try: little in `make test`, a lot in `make torture`.

use std::str::FromStr;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Sets how often a worker is killed in each such test.
const KILLS: &str = "GROUPMQ_TORTURE_KILLS";

/// Sets how many seeds a property of the whole is tried with.
const SEEDS: &str = "GROUPMQ_TORTURE_SEEDS";

/// Sets for how many seconds deeds of an operator follow one another.
const SECONDS: &str = "GROUPMQ_TORTURE_SECONDS";

/// Parts of the names of those deeds, with commas between them, to do these alone.
const DEEDS: &str = "GROUPMQ_TORTURE_DEEDS";

/// Sets the (first) seed, to see a failure again.
const SEED: &str = "GROUPMQ_TORTURE_SEED";

/// How often to kill, unless the environment says otherwise.
pub(crate) fn kills(usually: usize) -> usize {
    from_environment(KILLS).unwrap_or(usually)
}

/// How many seeds to try, unless the environment says otherwise.
pub(crate) fn seeds(usually: usize) -> usize {
    from_environment(SEEDS).unwrap_or(usually)
}

/// For how long deeds follow one another, unless the environment says otherwise.
pub(crate) fn duration(usually: Duration) -> Duration {
    from_environment(SECONDS).map_or(usually, Duration::from_secs)
}

/// Whether a deed is among those to be done.
pub(crate) fn is_wanted(deed: &str) -> bool {
    let parts = from_environment::<String>(DEEDS);
    parts.is_none_or(|parts| parts.split(',').any(|part| deed.contains(part)))
}

/// Chance with a seed that a failed test names.
#[derive(Debug)]
pub(crate) struct Chance {
    /// What it grew from.
    pub(crate) seed: u64,
    /// What is drawn from.
    pub(crate) rng: StdRng,
}

impl Chance {
    /// The seed that the environment names, or any.
    pub(crate) fn new() -> Self {
        Self::of(from_environment(SEED).unwrap_or_else(|| rand::random_range(0..1_000_000)))
    }

    /// The seed that the environment names; else any where deeds follow one another for long, and this one in
    /// `make test`, which so does the same each time.
    pub(crate) fn usually(seed: u64) -> Self {
        let is_short = from_environment::<u64>(SECONDS).is_none();
        match from_environment(SEED).or(is_short.then_some(seed)) {
            Some(seed) => Self::of(seed),
            None => Self::new(),
        }
    }

    /// This seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
        }
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Chance {
    #[expect(clippy::print_stderr, reason = "what a failed test is repeated with")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- again with {SEED}={}", self.seed);
        }
    }
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var_os(name)?;
    value.to_str()?.parse().ok()
}
