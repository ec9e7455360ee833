"""What the peers share: they talk to the test in lines of JSON on standard output."""

import json

import nats


def say(**line):
    print(json.dumps(line), flush=True)


async def connect(url, **options):
    """A connection that ends with the first outage: a peer does not outlive its nats-server."""
    return await nats.connect(url, allow_reconnect=False, **options)


def text(payload):
    """Bytes as JSON has them: one character for each, where they are not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload.decode("latin-1")

