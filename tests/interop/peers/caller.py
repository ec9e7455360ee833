"""A plain caller: an inbox, a request with it as its reply subject, and all that comes.

usage: caller.py URL SUBJECT DATA [HEADERS]

HEADERS is JSON. Prints each message as {"data": .., "headers": ..}; after an end or an error of the text or the sentinel
dialect also what nats-server still had, and then {"ended": true}.
"""

import asyncio
import json
import sys

from peer import connect, say, text


async def main(url, subject, data, headers="{}"):
    nc = await connect(url)
    ended = asyncio.Event()

    async def take(message):
        data = text(message.data)
        say(data=data, headers=message.headers or {})
        if not data or data == "__STREAM_END__" or data.startswith("__STREAM_ERROR__"):
            ended.set()

    inbox = nc.new_inbox()
    await nc.subscribe(inbox, cb=take)
    await nc.publish(subject, data.encode(), reply=inbox, headers=json.loads(headers) or None)
    await ended.wait()
    # What was sent behind the end has come after this round trip.
    await nc.flush()
    await nc.drain()
    say(ended=True)


asyncio.run(main(*sys.argv[1:]))
