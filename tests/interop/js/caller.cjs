// A caller with requestMany, strategy sentinel.
//
// usage: caller.cjs URL SUBJECT DATA [HEADERS]
//
// HEADERS is JSON. Prints each message as {"data": .., "headers": ..}, and {"ended": true} when requestMany is content.
"use strict";

const { connect, headersOf, run, say, withHeaders } = require("./peer.cjs");

run(async (url, subject, data, headers = "{}") => {
  const nc = await connect(url);
  const options = { strategy: "sentinel", maxWait: 30000, headers: withHeaders(JSON.parse(headers)) };
  for await (const message of await nc.requestMany(subject, data, options)) {
    say({ data: message.string(), headers: headersOf(message) });
  }
  say({ ended: true });
  await nc.close();
});
