//! WAHA's paths for groups and private ids, our own beside them, and the command of each.
//!
//! Method and path are defined in the contract. This module adds which fields of the payload are query
//! parameters, and whether there is a body.

use axum::http::{Method, StatusCode, Uri};
use serde_json::{Map, Value};

use super::query;
use crate::contract::{CommandType, Repeat};

/// A method and path, and its command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) command: CommandType,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
}

/// Whether requests of a route have a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyRule {
    None,
    Optional,
    Required,
}

/// A field of the payload that is a query parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: ParameterKind,
    pub(super) required: bool,
}

/// The type of a query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterKind {
    Number,
    /// A limit; 0 means no limit, as in WAHA.
    Bound,
    Text,
    Flag,
    List,
}

/// All routes, in the order of WAHA's documentation.
pub(super) fn all() -> impl Iterator<Item = Route> {
    let commands = CommandType::ALL.iter().filter_map(|&command| {
        let endpoint = command.endpoint().or(command.own_endpoint());
        let (method, path) = endpoint?.split_once(' ')?;
        // In WAHA, webhooks are a part of the session's configuration.
        path.starts_with("/api/{session}/").then_some(Route {
            command,
            method,
            path,
        })
    });
    commands.chain([PEOPLE_V2])
}

/// WAHA's second path for the participants: with the phone as `pn`, and without the private id.
const PEOPLE_V2: Route = Route {
    command: CommandType::GetParticipants,
    method: "GET",
    path: "/api/{session}/groups/{groupId}/participants/v2",
};

/// The parts of paths that are fields of the payload.
const PATH_FIELDS: [&str; 3] = ["groupId", "lid", "phone"];

impl Route {
    pub(super) fn method(self) -> Method {
        Method::from_bytes(self.method.as_bytes()).unwrap_or_default()
    }

    /// Whether the command changes something.
    pub(super) fn changes(self) -> bool {
        self.command.repeat() != Repeat::ReadOnly
    }

    /// Whether the path has this part.
    pub(super) fn has(self, field: &str) -> bool {
        self.path.contains(&format!("{{{field}}}"))
    }

    /// The route's name in the OpenAPI document.
    pub(super) fn name(self) -> String {
        let v2 = if self.is_v2() { "V2" } else { "" };
        format!("{}{v2}", self.command.as_str())
    }

    /// Whether it is WAHA's second path for the participants.
    pub(super) fn is_v2(self) -> bool {
        self.path == PEOPLE_V2.path
    }

    /// The status of a successful response, as in WAHA.
    pub(super) const fn success(self) -> StatusCode {
        match self.command {
            CommandType::CreateGroup => StatusCode::CREATED,
            _ => StatusCode::OK,
        }
    }

    pub(super) const fn body(self) -> BodyRule {
        match self.command {
            CommandType::CreateGroup
            | CommandType::EnsureGroup
            | CommandType::SetGroupSubject
            | CommandType::SetGroupDescription
            | CommandType::SetGroupPicture
            | CommandType::SetMessagesAdminOnly
            | CommandType::SetMemberAddMode
            | CommandType::SetMembershipApproval
            | CommandType::SetMemberShareHistory
            | CommandType::SetDisappearingMessages
            | CommandType::AddParticipants
            | CommandType::RemoveParticipants
            | CommandType::PromoteAdmin
            | CommandType::DemoteAdmin
            | CommandType::JoinGroup
            | CommandType::ApproveJoinRequests
            | CommandType::RejectJoinRequests => BodyRule::Required,
            CommandType::SetInfoAdminOnly => BodyRule::Optional,
            _ => BodyRule::None,
        }
    }

    pub(super) const fn parameters(self) -> &'static [Parameter] {
        const fn parameter(name: &'static str, kind: ParameterKind) -> Parameter {
            Parameter {
                name,
                kind,
                required: false,
            }
        }
        match self.command {
            CommandType::ListGroups => {
                const {
                    &[
                        parameter("limit", ParameterKind::Bound),
                        parameter("offset", ParameterKind::Number),
                        parameter("sortBy", ParameterKind::Text),
                        parameter("sortOrder", ParameterKind::Text),
                        parameter("exclude", ParameterKind::List),
                    ]
                }
            }
            CommandType::ListLids => {
                const {
                    &[
                        parameter("limit", ParameterKind::Number),
                        parameter("offset", ParameterKind::Number),
                    ]
                }
            }
            CommandType::GetGroupPicture => const { &[parameter("refresh", ParameterKind::Flag)] },
            CommandType::DeleteGroup => const { &[parameter("forEveryone", ParameterKind::Flag)] },
            CommandType::GetJoinInfo => {
                const {
                    &[Parameter {
                        required: true,
                        ..parameter("code", ParameterKind::Text)
                    }]
                }
            }
            _ => &[],
        }
    }

    /// The fields of the payload that are in path and query.
    pub(super) fn fields<'a>(
        self,
        part: impl Fn(&str) -> Option<&'a str>,
        uri: &Uri,
    ) -> Map<String, Value> {
        let mut fields = Map::new();
        for name in PATH_FIELDS {
            if let Some(value) = part(name) {
                fields.insert(name.to_owned(), value.into());
            }
        }
        for parameter in self.parameters() {
            if let Some(value) = parameter.read(uri) {
                fields.insert(parameter.name.to_owned(), value);
            }
        }
        fields
    }
}

impl Parameter {
    /// Parses the parameter. An invalid value stays a string, which the schema refuses.
    fn read(self, uri: &Uri) -> Option<Value> {
        if self.kind == ParameterKind::List {
            let values = query::list(uri, self.name);
            return (!values.is_empty()).then(|| values.into());
        }
        let text = query::first(uri, self.name)?;
        if self.kind == ParameterKind::Bound && text.parse() == Ok(0_u64) {
            return None;
        }
        Some(match self.kind {
            ParameterKind::Number | ParameterKind::Bound => {
                text.parse::<u64>().map_or(text.into(), Value::from)
            }
            ParameterKind::Flag => text.parse::<bool>().map_or(text.into(), Value::from),
            ParameterKind::Text | ParameterKind::List => text.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(command: CommandType, uri: &str) -> String {
        let route = all().find(|it| it.command == command).unwrap();
        Value::Object(route.fields(|_| None, &uri.parse().unwrap())).to_string()
    }

    #[test]
    fn the_query_becomes_fields_of_the_payload() {
        assert_eq!(
            fields(
                CommandType::ListGroups,
                "/?limit=5&sortBy=subject&exclude=participants&other=1&x-api-key=k"
            ),
            r#"{"limit":5,"sortBy":"subject","exclude":["participants"]}"#
        );
        assert_eq!(
            fields(CommandType::ListGroups, "/?limit=-1&offset="),
            r#"{"limit":"-1"}"#
        );
        for unbounded in ["/?limit=", "/?limit=0", "/?limit=&limit=0&sortBy=&exclude="] {
            assert_eq!(fields(CommandType::ListGroups, unbounded), "{}");
        }
        assert_eq!(
            fields(CommandType::DeleteGroup, "/?forEveryone=true"),
            r#"{"forEveryone":true}"#
        );
        assert_eq!(fields(CommandType::GetGroup, "/?limit=5"), "{}");
        let link = "/?code=https%3A%2F%2Fchat.whatsapp.com%2FHD9B7MXXHrvrVVXW7FxuT5%3Fmode%3Dr_t";
        assert_eq!(
            fields(CommandType::GetJoinInfo, link),
            r#"{"code":"https://chat.whatsapp.com/HD9B7MXXHrvrVVXW7FxuT5?mode=r_t"}"#
        );
    }

    #[test]
    fn every_command_has_a_method_and_a_path() {
        for route in all() {
            assert!(!route.method.is_empty(), "{route:?}");
            assert!(route.path.starts_with("/api/{session}/"), "{route:?}");
        }
    }
}
