// What the peers share: they talk to the test in lines of JSON on standard output.
"use strict";

const transport = require("@nats-io/transport-node");

exports.say = (line) => console.log(JSON.stringify(line));

// A connection that ends with the first outage: a peer does not outlive its nats-server.
exports.connect = (url) => transport.connect({ servers: url, reconnect: false });

exports.headersOf = (message) => {
  const headers = {};
  for (const name of message.headers?.keys() ?? []) {
    headers[name] = message.headers.get(name);
  }
  return headers;
};

exports.withHeaders = (entries) => {
  const headers = transport.headers();
  for (const [name, value] of Object.entries(entries)) {
    headers.set(name, value);
  }
  return headers;
};

exports.run = (main) =>
  main(...process.argv.slice(2)).catch((error) => {
    console.error(error);
    process.exit(1);
  });
