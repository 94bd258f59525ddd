//! The part of the topology that a process declares, and whether it works on commands, by its roles.

use std::sync::Arc;

use crate::amqp::{Scope, Topology};
use crate::config::{Config, Role, TopologyMode};
use crate::fanout::{AllEndpoints, Fanout};

/// The topology, and the part of it that these roles declare. A role that knows all bindings of an exchange may
/// declare it: only the executors of commands know the number of shards, and only the publishers of events the
/// endpoints of the store.
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
