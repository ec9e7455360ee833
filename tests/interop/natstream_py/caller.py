"""The caller's host: calls on a connection, each as an asynchronous iterator of items."""

import asyncio
from typing import AsyncIterator, Dict, Optional

from header import NAME
from inbound import MIN_WINDOW, Inbound
from items import Budget
from link import Driver, Link
from peer import Incoming, Outgoing
from verdict import Verdict

RETRY_EVERY, RETRY_FOR = 250, 5000


class Stream:
    """One call. Iterate over it, then read `verdict`."""

    def __init__(self, link: Link, unfinished: Budget, subject: str, body: bytes,
                 headers: Dict[str, str], window: int, max_item: int, heartbeat: int,
                 deadline_ms: Optional[int]) -> None:
        self._link = link
        self._unfinished = unfinished
        self._request = Outgoing(subject, body, headers)
        self._extra = max(window - MIN_WINDOW, 0)
        if not link.windows.take(self._extra):  # Rule 34: then it is the smallest window.
            self._extra = 0
        self._max_item = max_item
        self._heartbeat = heartbeat
        self._deadline = None if deadline_ms is None else link.now() + deadline_ms
        self._machine: Optional[Inbound] = None
        self._changed = asyncio.Event()
        self._driver = Driver(self._run, link.now)
        self._token = ""
        self.verdict: Optional[Verdict] = None
        self.counts: Dict[str, int] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._link.listeners.add(self._on_link)
        try:
            while self.verdict is None and await self._attempt():
                async for item in self._items():
                    yield item
                await self._maybe_again()
        finally:
            self.cancel()
            self._link.listeners.discard(self._on_link)
            self._link.windows.give(self._extra)
            self._extra = 0

    def cancel(self) -> None:
        """A cancel is CLOSE(CANCELLED) (rule 56)."""
        if self._machine is not None:
            self._machine.cancel(self._link.now())
            self._run()
        elif self.verdict is None:
            self.verdict = Verdict("cancelled")

    async def _attempt(self) -> bool:
        """A new token and a new Open (rules 1 and 28), once the connection is up (rule 20)."""
        while not self._link.up:
            now = self._link.now()
            if self._deadline is not None and now >= self._deadline:
                self.verdict = Verdict("timed_out", detail="deadline")
                return False
            if self._link.closed:
                self.verdict = Verdict("lost", detail="disconnected")
                return False
            await asyncio.sleep(0.02)
        now = self._link.now()
        left = None if self._deadline is None else max(self._deadline - now, 1)
        self._machine = Inbound(self._send, now, window=MIN_WINDOW + self._extra,
                                max_item=self._max_item, heartbeat=self._heartbeat,
                                deadline_ms=left, budget=self._unfinished,
                                may_refuse=self._link.may_refuse)
        self._token = self._link.register(self._on_message)
        headers = {**self._request.headers, NAME: self._machine.open_header()}
        request = Outgoing(self._request.subject, self._request.payload, headers)
        self._link.send(request, self._link.subject(self._token))
        self._driver.poke()
        return True

    async def _items(self) -> AsyncIterator[bytes]:
        machine = self._machine
        assert machine is not None
        while True:
            item = machine.take()
            if item is not None:
                self._driver.poke()
                yield item
            elif machine.verdict is not None:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _maybe_again(self) -> None:
        """Rule 26: just after our own reconnect, 503 may only mean that others are not back."""
        assert self._machine is not None
        verdict = self._machine.verdict
        since = self._link.reconnected_at
        now = self._link.now()
        if (verdict is not None and verdict.kind == "no_responders" and since is not None
                and now + RETRY_EVERY < since + RETRY_FOR
                and (self._deadline is None or now + RETRY_EVERY < self._deadline)):
            await asyncio.sleep(RETRY_EVERY / 1000)
        else:
            self.verdict = verdict

    def _send(self, message: Outgoing) -> bool:
        return self._link.send(message,
                               self._link.subject(self._token) if message.own_reply else "")

    def _on_message(self, message: Incoming) -> None:
        if self._machine is not None:
            self._machine.on_message(self._link.now(), message)
            self._changed.set()
            self._driver.poke()

    def _on_link(self, what: str) -> None:
        if self._machine is None:
            return
        if what == "up":
            self._machine.on_up(self._link.now())
        elif self._link.closed:
            self._machine.on_closed()
        elif what == "down":
            self._machine.on_down(self._link.now())
        self._driver.poke()

    def _run(self) -> Optional[int]:
        machine = self._machine
        if machine is None:
            return None
        machine.tick(self._link.now())
        if machine.verdict is None:
            return machine.next_deadline()
        self._link.forget(self._token)
        self.counts = dict(machine.counts)
        if machine.verdict.kind == "cancelled":
            self.verdict = machine.verdict
        self._changed.set()
        self._driver.stop()
        return None


class Caller:
    """Calls on one connection."""

    def __init__(self, link: Link, unfinished: int = 256 << 20) -> None:
        self._link = link
        self._unfinished = Budget(unfinished)

    def call(self, subject: str, body: bytes = b"", *, headers: Optional[Dict[str, str]] = None,
             window: int = 65536, max_item: int = 16 << 20, heartbeat: int = 5000,
             deadline_ms: Optional[int] = None) -> Stream:
        return Stream(self._link, self._unfinished, subject, body, headers or {}, window,
                      max_item, heartbeat, deadline_ms)
