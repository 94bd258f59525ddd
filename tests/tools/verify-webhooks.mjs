// Verifies deliveries as a receiver in Node does: one JSON object per line on standard input, with
// `secret`, `headers` and `body`; prints "ok" or "bad" for each.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("ok");
  } catch (error) {
    console.log("bad");
  }
}
