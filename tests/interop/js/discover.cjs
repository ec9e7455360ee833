// Asks what the services called NAME say of themselves.
//
// usage: discover.cjs URL NAME
//
// Prints the answers as {"ping": [..], "info": [..], "stats": [..]}.
"use strict";

const { Svcm } = require("@nats-io/services");
const { connect, run, say } = require("./peer.cjs");

run(async (url, name) => {
  const nc = await connect(url);
  const client = new Svcm(nc).client();
  const answers = {};
  for (const verb of ["ping", "info", "stats"]) {
    answers[verb] = [];
    for await (const answer of await client[verb](name)) {
      answers[verb].push(answer);
    }
  }
  say(answers);
  await nc.close();
});
