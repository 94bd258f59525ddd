//! The options that all kinds of load have.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::mix::Mix;
use super::pace::Pace;
use super::setup::Setup;
use crate::amqp::Names;
use crate::cli::exit::Failure;
use crate::cli::send::duration;
use crate::contract::SessionName;

/// The options that all kinds of load have.
#[derive(Debug, Args)]
pub(super) struct LoadOptions {
    /// The sessions, which are used in turn.
    #[arg(long, default_value = "default", value_delimiter = ',')]
    pub(super) sessions: Vec<SessionName>,
    /// The number of groups in each session: created before, used in turn, deleted after.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) groups: u32,
    /// Do not delete the groups.
    #[arg(long)]
    pub(super) keep_groups: bool,
    /// Closed loop: send the next command when fewer than this number have no reply.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        conflicts_with_all = ["rate", "rates"]
    )]
    in_flight: u32,
    /// Open loop: send this number of commands a second, whether or not replies come. Times count from when a command
    /// was due.
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "rates")]
    rate: Option<f64>,
    /// Open loop with each of these rates, one after the other.
    #[arg(long, value_name = "N,N,…", value_parser = rate, value_delimiter = ',')]
    rates: Vec<f64>,
    /// The measured time of each run.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) duration: Duration,
    /// The time before it, which is not measured.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(super) warm_up: Duration,
    /// A command without a reply in this time counts as lost.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// Also put load on real WhatsApp accounts, which may get them restricted or banned.
    #[arg(long)]
    pub(super) allow_real_accounts: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Draw the times over the rates into this file.
    #[arg(long, value_name = "FILE", requires = "rates")]
    pub(super) svg: Option<PathBuf>,
}

/// The option for the commands that are sent.
#[derive(Debug, Args)]
pub(super) struct MixOption {
    /// The commands and their weights.
    #[arg(long, default_value = "SetGroupSubject=8,GetGroup=2")]
    pub(super) mix: Mix,
}

/// Reads a rate.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    rate.filter(|it| (0.01..=1_000_000.0).contains(it))
        .ok_or_else(|| "must be a number of commands a second, from 0.01 to 1000000".to_owned())
}

impl LoadOptions {
    /// The runs, in order.
    pub(super) fn paces(&self) -> Vec<Pace> {
        let in_flight = usize::try_from(self.in_flight).unwrap_or(usize::MAX);
        match (self.rate, self.rates.as_slice()) {
            (Some(rate), _) => vec![Pace::Open { rate }],
            (None, []) => vec![Pace::Closed { in_flight }],
            (None, rates) => rates.iter().map(|&rate| Pace::Open { rate }).collect(),
        }
    }

    /// How many requests may be in flight in a closed loop; for an open loop, a number that is rarely exceeded.
    pub(super) fn connections(&self) -> usize {
        usize::try_from(self.in_flight).unwrap_or(usize::MAX)
    }

    /// How the commands before and after the load are sent.
    pub(super) fn setup<'a>(&self, names: &'a Names, run: &'a str) -> Setup<'a> {
        Setup {
            names,
            run,
            timeout: self.timeout.max(SETUP_WITHIN),
        }
    }

    /// Checks what clap cannot, before anything is sent.
    pub(super) fn check(&self, mix: &Mix) -> Result<(), Failure> {
        if self.duration.is_zero() || self.timeout.is_zero() {
            let why = "--duration and --timeout must be longer than 0s";
            return Err(Failure::Usage(why.to_owned()));
        }
        if self.duration > LONGEST || self.warm_up > LONGEST || self.timeout > LONGEST {
            let why = "--duration, --warm-up and --timeout must not be longer than 24h";
            return Err(Failure::Usage(why.to_owned()));
        }
        if let Some(command) = mix.names_people().filter(|_| self.allow_real_accounts) {
            return Err(Failure::Usage(format!(
                "{} names people who are made up, so --allow-real-accounts does not go with it",
                command.as_str()
            )));
        }
        if let Some(file) = &self.svg {
            std::fs::write(file, "")
                .map_err(|error| Failure::Usage(format!("--svg {}: {error}", file.display())))?;
        }
        Ok(())
    }
}

/// The least time to wait for a reply before and after the load.
const SETUP_WITHIN: Duration = Duration::from_mins(1);

/// The longest time that an option may name.
const LONGEST: Duration = Duration::from_hours(24);
