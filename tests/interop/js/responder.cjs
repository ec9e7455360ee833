// A plain responder: answers each request with the same messages.
//
// usage: responder.cjs URL SUBJECT STEPS
//
// STEPS is as for responder.py. Prints {"ready": true} when nats-server knows it, and each request.
"use strict";

const { connect, headersOf, run, say, withHeaders } = require("./peer.cjs");

async function answer(nc, reply, steps) {
  for (const step of steps) {
    if (typeof step === "string") {
      nc.publish(reply, step);
    } else if (step.count !== undefined) {
      for (let number = 0; number < step.count; number++) {
        nc.publish(reply, String(number));
      }
    } else if (step.hex !== undefined) {
      nc.publish(reply, Buffer.from(step.hex, "hex"));
    } else if (step.headers !== undefined) {
      nc.publish(reply, "", { headers: withHeaders(step.headers) });
    } else {
      await nc.flush();
    }
  }
}

run(async (url, subject, steps) => {
  const nc = await connect(url);
  nc.subscribe(subject, {
    callback: (_error, request) => {
      say({ data: request.string(), headers: headersOf(request) });
      answer(nc, request.reply, JSON.parse(steps));
    },
  });
  await nc.flush();
  say({ ready: true });
  await nc.closed();
});
