"""A worker as a careful user of Celery writes one: what a task publishes is persistent and confirmed, and a
command is acknowledged after its reply and its event are. SIGTERM lets the tasks that began end."""

import os
import sys
from datetime import datetime, timezone

from celery import Celery, Task
from celery.worker import state
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from celery.worker.request import Request
from kombu import Exchange, Queue

EVENTS = os.environ["BENCH_EVENTS"]
PROCESSES = os.cpu_count() or 1

# The step would leave queues for delayed tasks at the broker, and no task here is delayed.
DelayedDelivery.include_if = lambda *_: False

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.update(
    broker_connection_retry_on_startup=False,
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_ignore_result=True,
    # The arguments tell Celery that a quorum queue has no global prefetch window.
    task_queues=[
        Queue(
            os.environ["BENCH_QUEUE"],
            Exchange(""),
            queue_arguments={"x-queue-type": "quorum"},
            no_declare=True,
        )
    ],
    worker_concurrency=PROCESSES,
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=max(1, int(os.environ["BENCH_IN_FLIGHT"]) // PROCESSES),
)


class Command(Request):
    def on_failure(self, *_args, **_options) -> None:
        """Celery would acknowledge the command and go on. It logs the error in any case."""
        state.should_stop = 1


class CommandTask(Task):
    Request = Command


@app.task(name="command", base=CommandTask, bind=True)
def execute(self: Task, command: dict) -> None:
    payload, session = command["payload"], command["session"]
    time = datetime.now(timezone.utc).isoformat()
    result = {"id": payload["groupId"], "subject": payload.get("subject")}
    reply = {
        "commandId": command["id"],
        "type": command["type"],
        "session": session,
        "status": "succeeded",
        "result": result,
        "time": time,
    }
    event = {"id": command["id"], "session": session, "group": result, "time": time}
    properties = {
        "correlation_id": self.request.correlation_id,
        "delivery_mode": "persistent",
        "serializer": "json",
    }
    with self.app.producer_or_acquire() as producer:
        # Each waits for its confirm.
        producer.publish(
            reply, exchange="", routing_key=self.request.reply_to, **properties
        )
        producer.publish(
            event,
            exchange=EVENTS,
            routing_key=f"{session}.group.v2.update",
            **properties,
        )


if __name__ == "__main__":
    worker = app.Worker(
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_heartbeat=True,
        without_mingle=True,
    )
    worker.start()
    sys.exit(worker.exitcode)
