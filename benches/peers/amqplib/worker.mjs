// A worker as a careful user of amqplib writes one: what it publishes is persistent and confirmed, and a
// command is acknowledged after its reply and its event are. SIGTERM lets what is in flight end.
import process from "node:process";
import amqp from "amqplib";

const { BENCH_URL, BENCH_QUEUE, BENCH_EVENTS, BENCH_IN_FLIGHT } = process.env;

const connection = await amqp.connect(BENCH_URL, { noDelay: true });
connection.on("error", fail);
const source = await connection.createChannel();
const sink = await connection.createConfirmChannel();
await source.prefetch(Number(BENCH_IN_FLIGHT));

let inFlight = 0;
let drained = () => {};

function fail(error) {
  console.error(error);
  process.exit(1);
}

function publish(exchange, key, body, correlationId) {
  const options = { persistent: true, contentType: "application/json", correlationId };
  return new Promise((resolve, reject) => {
    sink.publish(exchange, key, Buffer.from(JSON.stringify(body)), options, (error) =>
      error ? reject(error) : resolve(),
    );
  });
}

async function handle(message) {
  const { id, type, session, payload } = JSON.parse(message.content.toString());
  const { replyTo, correlationId } = message.properties;
  const time = new Date().toISOString();
  const result = { id: payload.groupId, subject: payload.subject };
  await Promise.all([
    publish("", replyTo, { commandId: id, type, session, status: "succeeded", result, time }, correlationId),
    publish(BENCH_EVENTS, `${session}.group.v2.update`, { id, session, group: result, time }, correlationId),
  ]);
  source.ack(message);
}

const { consumerTag } = await source.consume(BENCH_QUEUE, (message) => {
  if (message === null) return fail(new Error("the broker cancelled the consumer"));
  inFlight += 1;
  handle(message).then(() => {
    inFlight -= 1;
    if (inFlight === 0) drained();
  }, fail);
});

process.once("SIGTERM", async () => {
  const empty = new Promise((resolve) => (drained = resolve));
  await source.cancel(consumerTag);
  if (inFlight > 0) await empty;
  await connection.close();
});
