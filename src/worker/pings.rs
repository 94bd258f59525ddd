//! Pings (`amqp::ping`): no commands, and nothing is done about them but to say that they came.

use std::sync::Arc;

use crate::amqp::Delivery;

use super::Worker;
use super::owned_shard::OwnedShard;

impl Worker {
    /// Says that a ping has come, then acknowledges it.
    pub(super) fn answer_ping(self: Arc<Self>, shard: &OwnedShard, delivery: Delivery) {
        let arrived = delivery.message.arrived(shard.fence.queue(), &self.names);
        self.lifecycle.clone().spawn(async move {
            if self.publisher.publish(vec![arrived]).await.is_ok() {
                delivery.ack();
            }
        });
    }
}
