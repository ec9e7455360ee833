"""A plain responder: answers each request with the same messages.

usage: responder.py URL SUBJECT STEPS

STEPS is JSON, a list of: a text, which is sent; {"count": N}, the numbers from 0; {"hex": ".."}, bytes;
{"headers": {..}}, an empty message with these; {"flush": true}, a round trip to nats-server, which keeps what is before
it and what is behind it apart. Prints {"ready": true} when nats-server knows it, and each request.
"""

import asyncio
import json
import sys

from peer import connect, say, text


async def answer(nc, reply, steps):
    for step in steps:
        if isinstance(step, str):
            await nc.publish(reply, step.encode())
        elif "count" in step:
            for number in range(step["count"]):
                await nc.publish(reply, str(number).encode())
        elif "hex" in step:
            await nc.publish(reply, bytes.fromhex(step["hex"]))
        elif "headers" in step:
            await nc.publish(reply, b"", headers=step["headers"])
        else:
            await nc.flush()


async def main(url, subject, steps):
    steps = json.loads(steps)
    closed = asyncio.Event()

    async def on_closed():
        closed.set()

    nc = await connect(url, closed_cb=on_closed)

    async def take(request):
        say(data=text(request.data), headers=request.headers or {})
        await answer(nc, request.reply, steps)

    await nc.subscribe(subject, cb=take)
    await nc.flush()
    say(ready=True)
    await closed.wait()


asyncio.run(main(*sys.argv[1:]))
