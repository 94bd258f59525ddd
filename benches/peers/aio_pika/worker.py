"""A worker as a careful user of aio-pika writes one: what it publishes is persistent and confirmed, and a
command is acknowledged after its reply and its event are. SIGTERM lets what is in flight end."""

import asyncio
import json
import os
import signal
import sys
from datetime import datetime, timezone

import aio_pika


async def main() -> None:
    in_flight: set[asyncio.Task] = set()
    ended = asyncio.Event()
    failed: list[BaseException] = []

    connection = await aio_pika.connect(os.environ["BENCH_URL"])
    source = await connection.channel()
    sink = await connection.channel(publisher_confirms=True)
    await source.set_qos(prefetch_count=int(os.environ["BENCH_IN_FLIGHT"]))
    queue = await source.get_queue(os.environ["BENCH_QUEUE"], ensure=False)
    events = await sink.get_exchange(os.environ["BENCH_EVENTS"], ensure=False)

    def message(body: dict, correlation_id: str | None) -> aio_pika.Message:
        return aio_pika.Message(
            json.dumps(body).encode(),
            content_type="application/json",
            correlation_id=correlation_id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )

    async def handle(command: aio_pika.abc.AbstractIncomingMessage) -> None:
        body = json.loads(command.body)
        payload, session = body["payload"], body["session"]
        time = datetime.now(timezone.utc).isoformat()
        result = {"id": payload["groupId"], "subject": payload.get("subject")}
        reply = {
            "commandId": body["id"],
            "type": body["type"],
            "session": session,
            "status": "succeeded",
            "result": result,
            "time": time,
        }
        event = {"id": body["id"], "session": session, "group": result, "time": time}
        await asyncio.gather(
            sink.default_exchange.publish(
                message(reply, command.correlation_id), command.reply_to
            ),
            events.publish(
                message(event, command.correlation_id), f"{session}.group.v2.update"
            ),
        )
        await command.ack()

    def finished(task: asyncio.Task) -> None:
        in_flight.discard(task)
        if not task.cancelled() and task.exception():
            failed.append(task.exception())
            ended.set()

    async def consume(command: aio_pika.abc.AbstractIncomingMessage) -> None:
        task = asyncio.create_task(handle(command))
        in_flight.add(task)
        task.add_done_callback(finished)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    tag = await queue.consume(consume)
    await ended.wait()
    if failed:
        sys.exit(f"a command failed: {failed[0]!r}")
    await queue.cancel(tag)
    if in_flight:
        await asyncio.gather(*in_flight)
    await connection.close()


asyncio.run(main())
