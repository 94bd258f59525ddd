//! Which commands a WAHA can execute: since which version, and with which of its engines.
//!
//! The table answers two questions: what a refusal has to say (`Waha::run`), and what `groupmq doctor`
//! lists. Whether a command is executed is decided by WAHA's own answer, never by the table. Source: WAHA's
//! changelog and its engines' sources, 2024.12 to 2026.9.

use std::fmt;

use serde_json::Value;

use crate::contract::CommandType;
use crate::engines::Unsupported;

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// Nothing: every version and engine has it.
    Always,
    /// A version, and not one of these engines.
    Since(Version, &'static [&'static str]),
    /// WAHA has no such request.
    Never,
}

/// A version of WAHA: year, month and build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u16, u16, u16);

/// A server as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Environment {
    version: Version,
    engine: String,
}

/// **The table.**
const fn support(command: CommandType) -> Support {
    match command {
        CommandType::RefreshGroups | CommandType::GetJoinInfo | CommandType::JoinGroup => {
            Support::Since(Version(2024, 12, 0), &[])
        }
        CommandType::GetGroupPicture
        | CommandType::SetGroupPicture
        | CommandType::DeleteGroupPicture => Support::Since(Version(2025, 2, 0), &[]),
        CommandType::GetMemberAddMode | CommandType::SetMemberAddMode => {
            Support::Since(Version(2026, 7, 2), &[])
        }
        CommandType::GetMembershipApproval
        | CommandType::SetMembershipApproval
        | CommandType::ListJoinRequests
        | CommandType::ApproveJoinRequests
        | CommandType::RejectJoinRequests => Support::Since(Version(2026, 8, 2), &[]),
        CommandType::GetMemberShareHistory | CommandType::SetMemberShareHistory => {
            Support::Since(Version(2026, 9, 0), &["WPP"])
        }
        CommandType::SetDisappearingMessages => Support::Never,
        _ => Support::Always,
    }
}

/// What a command needs that a WAHA which refused it does not have; none if nothing is known to be needed.
pub(super) fn needed(command: CommandType) -> Option<String> {
    let name = command.as_str();
    match support(command) {
        Support::Always => None,
        Support::Since(since, []) => Some(format!("WAHA has {name} since {since}; update WAHA")),
        Support::Since(since, without) => Some(format!(
            "WAHA has {name} since {since}, but not with its engine {}; update WAHA or use another engine",
            without.join(" or ")
        )),
        Support::Never => Some(format!(
            "WAHA has nothing like {name}; of groupmq's engines only the sandbox has it"
        )),
    }
}

/// The commands that a server cannot execute.
pub(super) fn unsupported(on: &Environment) -> Vec<Unsupported> {
    let why = |command: CommandType| match support(command) {
        Support::Always => None,
        Support::Since(since, without) => {
            let lacks = on.version < since || without.contains(&on.engine.as_str());
            lacks.then(|| needed(command)).flatten()
        }
        Support::Never => needed(command),
    };
    let all = CommandType::ALL.iter().copied();
    all.filter_map(|command| why(command).map(|reason| Unsupported { command, reason }))
        .collect()
}

impl Environment {
    /// Parses the answer to `GET /api/server/version`.
    pub(super) fn read(body: &Value) -> Option<Self> {
        Some(Self {
            version: Version::parse(body.get("version")?.as_str()?)?,
            engine: body.get("engine")?.as_str()?.to_owned(),
        })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WAHA {} with {}", self.version, self.engine)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| {
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        });
        let (year, month) = (numbers.next()??, numbers.next()??);
        Some(Self(
            year,
            month,
            numbers.next().flatten().unwrap_or_default(),
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(year, month, build) = self;
        write!(f, "{year}.{month}")?;
        if *build > 0 {
            write!(f, ".{build}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lacking(version: &str, engine: &str) -> Vec<&'static str> {
        let on = Environment::read(&json!({"version": version, "engine": engine})).unwrap();
        let all = unsupported(&on).into_iter();
        all.map(|it| it.command.as_str()).collect()
    }

    #[test]
    fn a_server_lacks_what_came_after_its_version_and_what_its_engine_never_had() {
        assert_eq!(lacking("2026.9.1", "GOWS"), ["SetDisappearingMessages"]);
        assert_eq!(
            lacking("2026.10.1", "WPP"),
            [
                "GetMemberShareHistory",
                "SetMemberShareHistory",
                "SetDisappearingMessages"
            ]
        );
        assert_eq!(
            lacking("2026.7.2", "NOWEB"),
            [
                "GetMembershipApproval",
                "SetMembershipApproval",
                "GetMemberShareHistory",
                "SetMemberShareHistory",
                "SetDisappearingMessages",
                "ListJoinRequests",
                "ApproveJoinRequests",
                "RejectJoinRequests"
            ]
        );
        assert!(lacking("2026.7.1", "NOWEB").contains(&"SetMemberAddMode"));
        assert!(lacking("2024.11", "WEBJS").contains(&"RefreshGroups"));
        assert!(lacking("2024.11", "WEBJS").contains(&"JoinGroup"));
    }

    #[test]
    fn the_documentation_names_each_command_that_needs_something() {
        let page = include_str!("../../../docs/engines.md");
        let (_, section) = page.split_once("### Commands that WAHA lacks").unwrap();
        let (section, _) = section.split_once("###").unwrap();
        let rows: Vec<_> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let listed = rows
            .iter()
            .flat_map(|row| row.split('`').skip(1).step_by(2));
        let mut listed: Vec<_> = listed.collect();
        listed.sort_unstable();
        let all = CommandType::ALL.iter();
        let mut needing: Vec<_> = all
            .filter(|command| support(**command) != Support::Always)
            .map(|command| command.as_str())
            .collect();
        needing.sort_unstable();
        assert_eq!(listed, needing);
        for command in CommandType::ALL {
            if let Support::Since(since, without) = support(*command) {
                let name = format!("`{}`", command.as_str());
                let row = rows.iter().find(|row| row.contains(&name)).unwrap();
                assert!(row.contains(&format!("WAHA {since}")), "{row}");
                assert!(without.iter().all(|engine| row.contains(engine)), "{row}");
            }
        }
    }

    #[test]
    fn what_is_needed_names_the_version_and_the_engine() {
        let needed = |command| needed(command).unwrap_or_default();
        assert!(needed(CommandType::SetMemberAddMode).contains("2026.7.2"));
        let history = needed(CommandType::GetMemberShareHistory);
        assert!(
            history.contains("2026.9") && history.contains("WPP"),
            "{history}"
        );
        assert!(needed(CommandType::SetDisappearingMessages).contains("sandbox"));
        assert_eq!(needed(CommandType::GetGroup), "");
    }

    #[test]
    fn a_server_that_does_not_describe_itself_is_unknown() {
        for body in [
            json!(null),
            json!({"version": "unknown", "engine": "NOWEB"}),
            json!({"version": "2026.9.1"}),
            json!({"version": 2026, "engine": "NOWEB"}),
        ] {
            assert_eq!(Environment::read(&body), None, "{body}");
        }
        let beta = json!({"version": "2026.9.1-beta", "engine": "GOWS", "tier": "PLUS"});
        let beta = Environment::read(&beta).unwrap();
        assert_eq!(beta.to_string(), "WAHA 2026.9.1 with GOWS");
    }
}
