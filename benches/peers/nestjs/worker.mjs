// A worker as a careful user of NestJS writes one: what it publishes is persistent and confirmed, and a command
// is acknowledged after its reply and its event are. SIGTERM lets what is in flight end.
import "reflect-metadata";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import { connect } from "amqp-connection-manager";
import { Controller, Injectable, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { Ctx, EventPattern, Payload, Transport } from "@nestjs/microservices";

const { BENCH_URL, BENCH_QUEUE, BENCH_EVENTS, BENCH_IN_FLIGHT } = process.env;
const CONSUMER = "commands";

function fail(error) {
  console.error(error);
  process.exit(1);
}

class Publisher {
  connection = connect([BENCH_URL], { connectionOptions: { noDelay: true } });
  sink = this.connection.createChannel({ confirm: true });

  publish(exchange, key, body, correlationId) {
    const options = { persistent: true, contentType: "application/json", correlationId };
    return this.sink.publish(exchange, key, Buffer.from(JSON.stringify(body)), options);
  }

  onApplicationShutdown() {
    return this.connection.close();
  }
}

class Commands {
  inFlight = 0;
  drained = () => {};

  constructor(publisher) {
    this.publisher = publisher;
  }

  // Nest logs what a handler throws and goes on, with the command neither acknowledged nor returned.
  handle(command, context) {
    this.source = context.getChannelRef();
    this.inFlight += 1;
    return this.execute(command, context).then(() => {
      this.inFlight -= 1;
      if (this.inFlight === 0) this.drained();
    }, fail);
  }

  async execute({ id, type, session, payload }, context) {
    const message = context.getMessage();
    const { replyTo, correlationId } = message.properties;
    const time = new Date().toISOString();
    const result = { id: payload.groupId, subject: payload.subject };
    const reply = { commandId: id, type, session, status: "succeeded", result, time };
    const event = { id, session, group: result, time };
    await Promise.all([
      this.publisher.publish("", replyTo, reply, correlationId),
      this.publisher.publish(BENCH_EVENTS, `${session}.group.v2.update`, event, correlationId),
    ]);
    context.getChannelRef().ack(message);
  }

  // Nest closes its channel after this, without waiting for handlers.
  async beforeApplicationShutdown() {
    await this.source?.cancel(CONSUMER);
    await setImmediate(); // what came last is on its way to the handler
    if (this.inFlight > 0) await new Promise((resolve) => (this.drained = resolve));
  }
}

// Decorators, without a compiler that knows their syntax.
Injectable()(Publisher);
Controller()(Commands);
Reflect.defineMetadata("design:paramtypes", [Publisher], Commands);
Payload()(Commands.prototype, "handle", 0);
Ctx()(Commands.prototype, "handle", 1);
const { handle } = Object.getOwnPropertyDescriptors(Commands.prototype);
EventPattern("command")(Commands.prototype, "handle", handle);

class Worker {}
Module({ controllers: [Commands], providers: [Publisher] })(Worker);

const app = await NestFactory.createMicroservice(Worker, {
  logger: ["warn", "error", "fatal"],
  transport: Transport.RMQ,
  options: {
    urls: [BENCH_URL],
    queue: BENCH_QUEUE,
    noAssert: true, // the queue is there, with arguments of its own
    noAck: false,
    prefetchCount: Number(BENCH_IN_FLIGHT),
    consumerTag: CONSUMER,
    maxConnectionAttempts: 1,
    socketOptions: { connectionOptions: { noDelay: true } },
    deserializer: { deserialize: (data) => ({ pattern: "command", data }) },
  },
});
app.enableShutdownHooks(["SIGTERM"], { useProcessExit: true });
await app.listen().catch(fail);
