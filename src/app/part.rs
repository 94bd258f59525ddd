//! What part a process has in the broker's topology and in commands, by its roles.

use std::sync::Arc;

use crate::amqp::{Scope, Topology};
use crate::config::{Config, Role, TopologyMode};
use crate::fanout::{AllEndpoints, Fanout};

/// What should be on the broker, and which part of it these roles make. Who knows an exchange's bindings may
/// make it: the number of shards counts for those who execute commands alone, and the endpoints of the store
/// for those who publish events.
pub(super) fn topology(config: &Config, fanout: Fanout) -> Topology {
    let has = |role| config.roles.contains(&role);
    let topology = Topology::new(&config.topology);
    let scope = match (has(Role::Commands), has(Role::Webhooks)) {
        (true, _) => Scope::Everything,
        (false, true) => Scope::Deliveries,
        (false, false) => return topology.within(Scope::Requests),
    };
    let may_bind = has(Role::Webhooks) || config.topology.mode == TopologyMode::Declare;
    topology
        .within(scope)
        .with(Arc::new(AllEndpoints::new(fanout, may_bind)))
}

/// Whether the process takes part in commands or their events; a gateway alone only asks the ledger.
pub(super) fn works(config: &Config) -> bool {
    config.roles.iter().any(|role| *role != Role::Gateway)
}
