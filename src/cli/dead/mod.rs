//! `groupmq dead`: dead letters of commands.

mod dead_letter;
mod replay;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::amqp::{BrowsedMessage, Client, Names, Target};
use crate::config::Config;

use super::exit::{Exit, Failure};
use super::output;

use dead_letter::DeadLetter;

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List dead letters, oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Maximum number of dead letters.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter in full.
    Show {
        /// The command's id.
        id: String,
    },
    /// Republish dead letters to where they came from.
    ///
    /// Each is removed from the dead letters only after the broker has confirmed its publication. An interrupt
    /// (Ctrl-C) stops after the current one.
    Replay {
        #[command(flatten)]
        filter: Filter,
        /// Maximum number per second.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// Only print how many would be republished.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete dead letters permanently.
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Only print how many would be deleted.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
}

/// Selects dead letters; all conditions must hold.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// With this error code, such as EXPIRED.
    #[arg(long)]
    reason: Option<String>,
    /// Of this session.
    #[arg(long)]
    session: Option<String>,
    /// Of this command type.
    #[arg(long = "type", value_name = "TYPE")]
    command_type: Option<String>,
    /// With this command id.
    #[arg(long)]
    id: Option<String>,
    /// First seen longer ago than this, such as 1h.
    #[arg(long, value_parser = super::send::duration)]
    older_than: Option<Duration>,
    /// First seen more recently than this.
    #[arg(long, value_parser = super::send::duration)]
    newer_than: Option<Duration>,
}

impl Filter {
    fn by_id(id: String) -> Self {
        Self {
            reason: None,
            session: None,
            command_type: None,
            id: Some(id),
            older_than: None,
            newer_than: None,
        }
    }

    fn matches(&self, letter: &DeadLetter, now: jiff::Timestamp) -> bool {
        let same = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let age = letter.age(now);
        same(&self.reason, &letter.code)
            && same(&self.session, &letter.session)
            && same(&self.command_type, &letter.command_type)
            && same(&self.id, &letter.id)
            && self
                .older_than
                .is_none_or(|limit| age.is_some_and(|age| age > limit))
            && self
                .newer_than
                .is_none_or(|limit| age.is_some_and(|age| age < limit))
    }
}

impl Dead {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        let names = Names::new(&config.topology.prefix);
        let client = Client::connect(&Target::new(config.amqp)).await?;
        let done = match self {
            Self::List {
                filter,
                limit,
                json,
            } => list(&client, &names, &filter, limit, json).await,
            Self::Show { id } => show(&client, &names, id).await,
            Self::Replay {
                filter,
                rate,
                dry_run,
            } => replay::run(&client, &names, &filter, rate, dry_run).await,
            Self::Purge {
                filter,
                dry_run,
                yes,
            } => purge(&client, &names, &filter, dry_run, yes).await,
        };
        client.close().await;
        done
    }
}

async fn list(
    client: &Client,
    names: &Names,
    filter: &Filter,
    limit: usize,
    json: bool,
) -> Result<Exit, Failure> {
    let mut shown = 0;
    if !json {
        output::line(&DeadLetter::heading())?;
    }
    for_each_match(client, names, filter, async |_, letter, _| {
        if shown < limit {
            output::line(&if json {
                letter.json().to_string()
            } else {
                letter.row()
            })?;
        }
        shown += 1;
        Ok(())
    })
    .await?;
    if !json {
        let more = shown.saturating_sub(limit);
        let rest = if more > 0 {
            format!(" ({more} more; --limit shows them)")
        } else {
            String::new()
        };
        output::line(&format!("{shown} dead letters{rest}"))?;
    }
    Ok(Exit::Ok)
}

async fn show(client: &Client, names: &Names, id: String) -> Result<Exit, Failure> {
    let filter = Filter::by_id(id);
    let mut found = false;
    for_each_match(client, names, &filter, async |_, letter, held| {
        found = true;
        let message = &held.message;
        let body = String::from_utf8_lossy(&message.body);
        let whole = json!({
            "letter": letter.json(),
            "headers": message.headers,
            "replyTo": message.reply_to,
            "correlationId": message.correlation_id,
            "body": serde_json::from_str(&body).unwrap_or_else(|_| json!(body)),
        });
        output::line(&serde_json::to_string_pretty(&whole).unwrap_or_default())
    })
    .await?;
    if found {
        return Ok(Exit::Ok);
    }
    let id = filter.id.unwrap_or_default();
    Err(Failure::Usage(format!(
        "no dead letter has the id {id}; `groupmq dead list` lists them"
    )))
}

async fn purge(
    client: &Client,
    names: &Names,
    filter: &Filter,
    dry_run: bool,
    yes: bool,
) -> Result<Exit, Failure> {
    if !dry_run && !yes && !output::confirm("Delete these dead letters permanently?")? {
        return Err(Failure::Usage(
            "nothing was deleted; --yes deletes without confirmation".to_owned(),
        ));
    }
    let mut removed = 0;
    for_each_match(client, names, filter, async |browse, _, held| {
        removed += 1;
        if !dry_run {
            browse.remove(held).await?;
        }
        Ok(())
    })
    .await?;
    let done = if dry_run {
        "would be deleted"
    } else {
        "deleted"
    };
    output::line(&format!("{removed} dead letters {done}"))?;
    Ok(Exit::Ok)
}

/// Calls `each` for the dead letters that match the filter; the others are requeued unchanged.
async fn for_each_match(
    client: &Client,
    names: &Names,
    filter: &Filter,
    mut each: impl AsyncFnMut(&crate::amqp::Browse, &DeadLetter, &BrowsedMessage) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let now = jiff::Timestamp::now();
    let mut browse = client.browse(&names.dead_commands()).await?;
    while let Some(held) = browse.next().await? {
        let letter = DeadLetter::read(&held.message);
        if filter.matches(&letter, now) {
            each(&browse, &letter, &held).await?;
        }
    }
    Ok(browse.end().await?)
}
