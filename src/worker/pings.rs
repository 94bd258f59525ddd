//! Pings (`amqp::ping`): they are not commands, and are only answered.

use std::sync::Arc;

use crate::amqp::Delivery;

use super::Worker;
use super::owned_shard::OwnedShard;

impl Worker {
    /// Publishes the answer to a ping, then acknowledges it.
    pub(super) fn answer_ping(self: Arc<Self>, shard: &OwnedShard, delivery: Delivery) {
        let arrived = delivery.message.arrived(shard.fence.queue(), &self.names);
        self.lifecycle.clone().spawn(async move {
            if self.publisher.publish(vec![arrived]).await.is_ok() {
                delivery.ack();
            }
        });
    }
}
