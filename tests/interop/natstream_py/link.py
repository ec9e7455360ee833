"""One NATS connection as both hosts use it: an inbox for all tokens, and sending that never waits.

A connection has one wildcard subscription for all its calls and streams (rule 1). What is published
goes through a queue with a budget, which is emptied when the connection goes down, since nothing
may wait there for its return (rule 67).
"""

import asyncio
import random
import secrets
import string
from collections import Counter, deque
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple

import nats
from nats.aio.msg import Msg

import wire
from items import Budget
from peer import Incoming, Outgoing, answer_stray, classify

LETTERS = string.ascii_letters + string.digits
QUEUE_BYTES = 1 << 20
STRAYS_A_SECOND = 100
WINDOW_BUDGET = 16 << 20


def new_token(length: int = 22) -> str:
    """131 bits from the system's generator (rule 1)."""
    return "".join(secrets.choice(LETTERS) for _ in range(length))


def incoming(message: Msg) -> Incoming:
    """The client library shows a status line as a header called `Status`, and an empty header block
    as none; neither can be told apart here."""
    headers = message.headers
    status = headers.get("Status") if headers else None
    number = int(status) if status is not None and status.isdigit() else None
    return Incoming(bytes(message.data), headers, message.reply, number)


class Rate:
    """At most so many a second (rules 9 and 50)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = self._count = 0

    def allows(self, now: int) -> bool:
        if now // 1000 != self._second:
            self._second, self._count = now // 1000, 0
        self._count += 1
        return self._count <= self._limit


class Link:
    def __init__(self, drop: float = 0.0, seed: Optional[int] = None) -> None:
        self.nc = nats.NATS()
        self.inbox = f"_INBOX.{new_token()}"
        self.up = False
        self.closed = False
        self.reconnected_at: Optional[int] = None
        self.served: List[str] = []
        self.counts: Counter = Counter()
        self.windows = Budget(WINDOW_BUDGET)
        # Called with "up", "down" or "room": the connection changed, or can take messages again.
        self.listeners: Set[Callable[[str], None]] = set()
        self._receivers: Dict[str, Callable[[Incoming], None]] = {}
        self._queue: Deque[Tuple[Outgoing, str]] = deque()
        self._queued = 0
        self._was_full = False
        self._wake = asyncio.Event()
        self._writer: Optional[asyncio.Task] = None
        self._drop = drop
        self._random = random.Random(seed)
        self._closes, self._resets = Rate(STRAYS_A_SECOND), Rate(STRAYS_A_SECOND)

    def now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    async def connect(self, server: str) -> None:
        # A short flush timeout: the library waits for it when the connection breaks under a write.
        await self.nc.connect(
            server, disconnected_cb=self._on_down, reconnected_cb=self._on_up,
            closed_cb=self._on_closed, error_cb=self._on_error, max_reconnect_attempts=-1,
            reconnect_time_wait=0.2, pending_size=1 << 18, flush_timeout=1)
        await self.nc.subscribe(f"{self.inbox}.*", cb=self._on_message)
        await self.fence()
        self.up = True
        self._writer = asyncio.get_running_loop().create_task(self._write())

    async def fence(self) -> None:
        """The server knows what was subscribed before. Twice, since the first PING of the client
        library may overtake a SUB that is still in its buffer."""
        await self.nc.flush()
        await self.nc.flush()

    async def close(self) -> None:
        """Waits for what was handed over, then leaves."""
        while self.up and self._queue:
            await asyncio.sleep(0.005)
        if self._writer is not None:
            self._writer.cancel()
        if self.up:
            await self.nc.flush()
        await self.nc.close()

    # Tokens

    def register(self, receiver: Callable[[Incoming], None]) -> str:
        token = new_token()
        self._receivers[token] = receiver
        return token

    def forget(self, token: str) -> None:
        self._receivers.pop(token, None)

    def subject(self, token: str) -> str:
        return f"{self.inbox}.{token}"

    async def _on_message(self, message: Msg) -> None:
        arrived = incoming(message)
        if self._drop and classify(arrived) == "native" and self._random.random() < self._drop:
            self.counts["dropped"] += 1
            return
        receiver = self._receivers.get(message.subject.rpartition(".")[2])
        if receiver is not None:
            receiver(arrived)
            return
        self.counts["unknown_token"] += 1
        for answer in answer_stray(arrived, (), self.served):
            rate = self._resets if answer.payload[1:2] == bytes([wire.RESET]) else self._closes
            if answer.payload and not rate.allows(self.now()):
                break
            self.send(answer)

    def may_refuse(self) -> bool:
        """Whether one more CLOSE(UNWANTED) may go to a stray in this second."""
        return self._closes.allows(self.now())

    # Sending

    def send(self, message: Outgoing, reply: str = "") -> bool:
        """Hands a message over, or says that it cannot now (rule 67)."""
        if not self.up or not self.nc.is_connected or self._queued >= QUEUE_BYTES:
            self._was_full = True
            return False
        self._queue.append((message, reply))
        self._queued += len(message.payload)
        self._wake.set()
        return True

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                message, reply = self._queue.popleft()
                self._queued -= len(message.payload)
                if not self.up or not self.nc.is_connected:
                    continue  # Nothing waits for the connection to come back (rule 67).
                try:
                    await self.nc.publish(message.subject, message.payload, reply,
                                          message.headers or None)
                except Exception as error:  # A message that the library refuses is a lost one.
                    self.counts["unsendable"] += 1
                    self._on_refused(error)
                if self._was_full and self._queued < QUEUE_BYTES // 2:
                    self._was_full = False
                    self._tell("room")

    def _on_refused(self, error: Exception) -> None:
        if self.up and self.nc.is_connected:
            self.counts["errors: " + type(error).__name__] += 1

    # Reconnects

    def _tell(self, what: str) -> None:
        for listener in list(self.listeners):
            listener(what)

    async def _on_down(self) -> None:
        self.up = False
        self._queue.clear()
        self._queued = 0
        self._tell("down")

    async def _on_up(self) -> None:
        self.up = True
        self.reconnected_at = self.now()
        self._tell("up")

    async def _on_closed(self) -> None:
        self.closed = True
        self.up = False
        self._tell("down")

    async def _on_error(self, error: Exception) -> None:
        self.counts["errors"] += 1


class Driver:
    """Looks at the clocks of a machine: soon after something happened, and when it asked for it."""

    def __init__(self, run: Callable[[], Optional[int]], now: Callable[[], int]) -> None:
        """`run` does what is due and says when it wants to be called next."""
        self._run = run
        self._now = now
        self._soon: Optional[asyncio.Handle] = None
        self._timer: Optional[asyncio.TimerHandle] = None

    def poke(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._look)

    def stop(self) -> None:
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None

    def _look(self) -> None:
        self._soon = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moment = self._run()
        if moment is not None:
            # A little late on purpose: what has arrived is handled before clocks (rule 45).
            delay = max(moment - self._now(), 0) / 1000 + 0.002
            self._timer = asyncio.get_running_loop().call_later(delay, self.poke)
