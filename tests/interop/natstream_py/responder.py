"""The responder's host: serves a subject, runs one handler for each Open, keeps ended streams."""

import asyncio
import secrets
from collections import OrderedDict
from typing import Awaitable, Callable, Dict, Optional

from nats.aio.msg import Msg

import wire
from header import NAME, HeaderError, Open, Unsupported, parse_open
from link import Driver, Link, incoming
from outbound import Outbound, refusal
from peer import Incoming, Outgoing, error_headers, is_usable
from wire import CODES, Status

ENDED_BYTES, ENDED_STREAMS = 16 << 20, 10000
LEFT_FOR_SERVERS, SMALLEST_UNIT = 1024, 128


class Failure(Exception):
    """Raised by a handler to end its stream with a status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


async def answer_test(call: "Call") -> None:
    """A test, for which no handler runs: three items, each in a unit of its own (rule 18)."""
    for number in range(3):
        await call.send(str(number).encode())
        call.flush()


class Call:
    """One stream as its handler sees it."""

    def __init__(self, owner: "Responder", request: Msg, opened: Open) -> None:
        self._owner = owner
        self._link = owner.link
        self.subject: str = request.subject
        self.body = bytes(request.data)
        self.headers: Dict[str, str] = dict(request.headers or {})
        self.token = self._link.register(self._on_message)
        self.machine = Outbound(self._send, self._link.now(), sid=secrets.randbits(32),
                                reply=request.reply, opened=opened, unit_max=owner.unit_max(),
                                retention=owner.retention, heartbeat=owner.heartbeat,
                                on_blocked=owner.on_blocked)
        self.counts = self.machine.counts
        self._driver = Driver(self._run, self._link.now)
        self._room = asyncio.Event()
        self._status = Status()
        self._handler = answer_test if opened.p else owner.handler
        self._task = asyncio.get_running_loop().create_task(self._handle())
        self._over = False
        self._link.listeners.add(self._on_link)
        self._driver.poke()

    async def send(self, item: bytes) -> None:
        """Waits for credit. Ends with the stream, by the cancelling of the handler (rule 67)."""
        machine = self.machine
        if len(item) > machine.max_item:
            text = f"an item of {len(item)} bytes; the largest is {machine.max_item}"
            raise Failure(Status(CODES["RESOURCE_EXHAUSTED"], text))
        while not machine.can_offer():
            machine.waits(self._link.now())
            self._driver.poke()
            self._room.clear()
            await self._room.wait()
        machine.offer(self._link.now(), item)
        self._driver.poke()
        if machine.has_unsent():
            await asyncio.sleep(0)  # A handler that never waits would keep whole units back.
        # A `send` comes back when its item is in units: so the end of the stream travels behind.
        while machine.sending_parts():
            self._room.clear()
            await self._room.wait()

    def flush(self) -> None:
        """Nothing waits for more items."""
        self.machine.flush(self._link.now())
        self._driver.poke()

    def trailers(self, details: bytes) -> None:
        self._status = Status(details=details)

    async def _handle(self) -> None:
        try:
            await self._handler(self)
            status = self._status
        except Failure as failure:
            status = failure.status
        except asyncio.CancelledError:
            return
        except Exception as error:
            status = Status(CODES["INTERNAL"], f"{type(error).__name__}: {error}")
        self.machine.finish(self._link.now(), status)
        self._driver.poke()

    def _send(self, message: Outgoing) -> bool:
        return self._link.send(message,
                               self._link.subject(self.token) if message.own_reply else "")

    def _on_message(self, message: Incoming) -> None:
        self.machine.on_message(self._link.now(), message)
        self._driver.poke()

    def _on_link(self, what: str) -> None:
        if what == "up":
            self.machine.on_up(self._link.now(), self._owner.unit_max())
        elif self._link.closed:
            self.machine.on_closed()
        elif what == "down":
            self.machine.on_down(self._link.now())
        self._driver.poke()

    def _run(self) -> Optional[int]:
        machine, now = self.machine, self._link.now()
        machine.flush(now)
        machine.tick(now)
        if machine.pump(now):
            self._driver.poke()  # The rest after the turns of the others (rule 41).
        self._room.set()
        if machine.handler is not None and not self._task.done():
            self._task.cancel()
        if machine.ended is None:
            if machine.fin is not None:
                self._owner.keep(self)
            return machine.next_deadline()
        if not self._over:
            self._over = True
            self._link.forget(self.token)
            self._link.listeners.discard(self._on_link)
            self._owner.forget(self)
        self._driver.stop()
        return None

    def kept_bytes(self) -> int:
        return self.machine.kept_bytes()

    def drop(self) -> None:
        """There is no room for it any more (rule 55)."""
        self.machine.forget_ended()
        self._driver.poke()


class Responder:
    def __init__(self, link: Link, subject: str, handler: Callable[[Call], Awaitable[None]], *,
                 queue: str = "q", retention: int = 2 << 20, heartbeat: int = 5000,
                 on_ended: Optional[Callable[[Call], None]] = None,
                 on_blocked: Callable[[], None] = lambda: None) -> None:
        self.link = link
        self.subject = subject
        self.handler = handler
        self.queue = queue
        self.retention = retention
        self.heartbeat = heartbeat
        self._on_ended = on_ended
        self.on_blocked = on_blocked
        self._ended: "OrderedDict[Call, int]" = OrderedDict()
        # The header block of a failing FIN is the largest: names, 256 bytes of text, the Answer.
        self._headers = 512

    async def start(self) -> None:
        if self.unit_max() < SMALLEST_UNIT:
            raise ValueError("the server's max_payload is too small (rule 14)")
        self.link.served.append(self.subject)
        await self.link.nc.subscribe(self.subject, self.queue, cb=self._on_request)
        await self.link.fence()

    def unit_max(self) -> int:
        """Rule 14."""
        return min(wire.UNIT_MAX, self.link.nc.max_payload - LEFT_FOR_SERVERS - self._headers)

    def keep(self, call: Call) -> None:
        """Ended streams share a budget; the oldest is forgotten first (rule 55)."""
        self._ended[call] = call.kept_bytes()
        while (len(self._ended) > ENDED_STREAMS
               or sum(self._ended.values()) > ENDED_BYTES and len(self._ended) > 1):
            oldest, _ = self._ended.popitem(last=False)
            oldest.drop()

    def forget(self, call: Call) -> None:
        self._ended.pop(call, None)
        if self._on_ended is not None:
            self._on_ended(call)

    async def _on_request(self, message: Msg) -> None:
        request = incoming(message)
        if not is_usable(message.reply, (), self.link.served):
            self.link.counts["refused_subject"] += 1
            return
        value = request.header(NAME)
        if value is None:
            status = Status(CODES["UNIMPLEMENTED"], "only native calls are served")
            self.link.send(Outgoing(message.reply, b"", error_headers(status)))
            return
        try:
            opened = parse_open(value)
            if opened.d == 0:
                self._refuse(message, "DEADLINE_EXCEEDED", "the deadline passed before the call")
            elif opened.c == 0:
                self._refuse(message, "PERMISSION_DENIED", "calls without control are not served")
            else:
                Call(self, message, opened)
        except Unsupported:
            self._refuse(message, "UNIMPLEMENTED", "no common version")
        except HeaderError as error:
            self._refuse(message, "INVALID_ARGUMENT", f"bad header: {error}")

    def _refuse(self, message: Msg, name: str, text: str) -> None:
        status = Status(CODES[name], text, not_processed=True)
        for answer in refusal(secrets.randbits(32), message.reply, status):
            self.link.send(answer)
