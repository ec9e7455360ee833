"""Asks a subject and prints each item: python call.py --server URL SUBJECT [BODY]"""

import argparse
import asyncio
import json
import sys

from caller import Caller
from link import Link


async def run(options: argparse.Namespace) -> int:
    link = Link(options.drop, options.seed)
    await link.connect(options.server)
    deadline = None if options.deadline is None else int(options.deadline * 1000)
    stream = Caller(link).call(options.subject, options.body.encode(), window=options.window,
                               heartbeat=options.heartbeat, deadline_ms=deadline)
    count = size = 0
    async for item in stream:
        count += 1
        size += len(item)
        line = item.hex().encode() if options.hex else item
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
        if options.slow:
            await asyncio.sleep(options.slow)
        if options.max_items and count >= options.max_items:
            stream.cancel()
            break
    await link.close()
    assert stream.verdict is not None
    shown = {**stream.verdict.as_json(), "bytes": size, "dropped": link.counts["dropped"],
             "counts": stream.counts}
    print(json.dumps(shown, ensure_ascii=False), file=sys.stderr)
    return 0 if stream.verdict.kind in ("ended", "cancelled") else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="nats://127.0.0.1:4222")
    parser.add_argument("--window", type=int, default=65536, metavar="BYTES")
    parser.add_argument("--heartbeat", type=int, default=5000, metavar="MS")
    parser.add_argument("--max-items", type=int, default=0, metavar="N")
    parser.add_argument("--deadline", type=float, metavar="SECONDS")
    parser.add_argument("--drop", type=float, default=0.0, metavar="PROBABILITY")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--slow", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--hex", action="store_true")
    parser.add_argument("subject")
    parser.add_argument("body", nargs="?", default="")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
