"""Serves generated items: python serve.py --server URL SUBJECT --count N --size B

Prints lines of JSON: when it is ready, when a caller holds a stream up for half a second, when a
stream has ended, and at the end how many messages it was told to drop."""

import argparse
import asyncio
import json
import signal
import sys
from typing import Any, Dict

from link import Link
from responder import Call, Failure, Responder
from wire import CODES, Status


def say(line: Dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)


def report(call: Call) -> None:
    machine = call.machine
    say({"ended": machine.ended, "handler": machine.handler, "items": machine.sent_items,
         "position": machine.sent, "units": machine.units_sent,
         "rewinds": machine.counts["rewinds"], "sent_again": machine.counts["sent_again"]})


def failure(text: str, details: str) -> Failure:
    code, _, message = text.partition(":")
    number = CODES[code] if code in CODES else int(code)
    return Failure(Status(number, message, details.encode()))


async def run(options: argparse.Namespace) -> None:
    async def handler(call: Call) -> None:
        for number in range(options.count):
            await call.send(str(number).ljust(options.size, ".").encode())
            if options.interval:
                await asyncio.sleep(options.interval)
        if options.fail:
            raise failure(options.fail, options.details)
        if options.details:
            call.trailers(options.details.encode())

    link = Link(options.drop, options.seed)
    await link.connect(options.server)
    await Responder(link, options.subject, handler, queue=options.queue,
                    retention=options.retention, heartbeat=options.heartbeat,
                    on_ended=report, on_blocked=lambda: say({"blocked": True})).start()
    say({"ready": options.subject})
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    say({"dropped": link.counts["dropped"]})
    await link.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="nats://127.0.0.1:4222")
    parser.add_argument("--queue", default="q")
    parser.add_argument("--count", type=int, default=10, metavar="N")
    parser.add_argument("--size", type=int, default=0, metavar="BYTES")
    parser.add_argument("--interval", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--fail", metavar="CODE:MESSAGE")
    parser.add_argument("--details", default="", metavar="TEXT")
    parser.add_argument("--retention", type=int, default=2 << 20, metavar="BYTES")
    parser.add_argument("--heartbeat", type=int, default=5000, metavar="MS")
    parser.add_argument("--drop", type=float, default=0.0, metavar="PROBABILITY")
    parser.add_argument("--seed", type=int)
    parser.add_argument("subject")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
