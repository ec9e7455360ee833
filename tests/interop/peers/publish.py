"""Publishes one message.

usage: publish.py URL SUBJECT DATA
"""

import asyncio
import sys

from peer import connect, say


async def main(url, subject, data):
    nc = await connect(url)
    await nc.publish(subject, data.encode())
    await nc.drain()
    say(published=True)


asyncio.run(main(*sys.argv[1:]))
