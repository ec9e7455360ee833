// A service as nats.js makes it: one reply for each request, or an error where the request is "fail".
//
// usage: service.cjs URL NAME SUBJECT
//
// Prints {"ready": true} when nats-server knows it.
"use strict";

const { Svcm } = require("@nats-io/services");
const { connect, run, say } = require("./peer.cjs");

run(async (url, name, subject) => {
  const nc = await connect(url);
  const service = await new Svcm(nc).add({ name, version: "1.0.0" });
  service.addEndpoint("echo", {
    subject,
    handler: (error, request) => {
      if (request.string() === "fail") {
        request.respondError(422, "no such thing");
      } else {
        request.respond(`echo ${request.string()}`);
      }
    },
  });
  await nc.flush();
  say({ ready: true });
  await nc.closed();
});
