"""The responder's half of one stream, without I/O and without a clock.

The handler's side calls `offer`, `flush` and `finish`; the host calls `on_message`, then `tick`,
and `tick` again at `next_deadline`. `pump` hands units to the connection, at most 64 KiB a call, so
that streams take turns (rule 41). All times are milliseconds of one clock that only rises.
"""

from collections import Counter
from typing import Callable, Dict, List, Optional

import wire
from header import HEARTBEAT_MS, NAME, VERSION, Answer, Open, clamp_heartbeat, write_answer
from packer import Kept, Packer
from peer import Incoming, Outgoing, classify, error_headers, is_mapped
from wire import Status

UNCONFIRMED_LIMIT = TURN = 65536
FIRST_UNIT, FIRST_BEAT, BLOCKED_BEAT = 200, 500, 500
SAME_REWIND, MISSED_END, FIN_AGAIN, SINGLE_LINGER = 500, 2000, 1000, 2000
PROBE, QUIET, SUSPICION, OUTAGE = 250, 1000, 5000, 30000


def refusal(sid: int, subject: str, status: Status) -> List[Outgoing]:
    """Rule 25; behind it the end of the mapping, if there is one (rule 60)."""
    headers = {NAME: str(VERSION), **error_headers(status)}
    messages = [Outgoing(subject, wire.encode(wire.Unit(sid, 0, b"", status)), headers)]
    if is_mapped(subject):
        messages.append(Outgoing(subject, b""))
    return messages


class Outbound:
    def __init__(self, send: Callable[[Outgoing], bool], now: int, *, sid: int, reply: str,
                 opened: Open, unit_max: int = wire.UNIT_MAX, retention: int = 2 << 20,
                 max_item: int = 16 << 20, heartbeat: int = HEARTBEAT_MS, stall: int = 300000,
                 metadata: Optional[Dict[str, str]] = None,
                 on_blocked: Callable[[], None] = lambda: None) -> None:
        """`send` says whether the message was handed over; it never waits (rule 67). `on_blocked`
        is called when the caller was told that it holds the stream up."""
        self._send_message = send
        self._on_blocked = on_blocked
        self.sid = sid
        self.reply = reply
        self.mapped = is_mapped(reply)
        self.heartbeat = clamp_heartbeat(opened.h if opened.h is not None else heartbeat)
        self.retention = max(retention, 1)
        self.max_item = max_item if opened.m is None else min(max_item, opened.m)
        self.metadata = metadata or {}
        self._answer = write_answer(Answer(self.retention, self.heartbeat))
        self._packer = Packer(sid, unit_max)
        self._units: List[Kept] = []
        self._cursor = 0  # index into _units
        self.fin: Optional[Kept] = None
        self.counts: Counter = Counter()
        # How it ended: done, cancelled, unwanted, gone, forgotten; and what the handler is told.
        self.ended: Optional[str] = None
        self.handler: Optional[str] = None
        self.confirmed = False
        self._limit = opened.w
        self.acked = 0
        self.sent = 0
        self.sent_items = 0
        self.units_sent = 0
        self._announce = 0
        self._up = True
        self._down_at = self._last_valid = self._last_sent = self._last_control = now
        self._deadline = None if opened.d is None else now + opened.d
        self._first_at = now + FIRST_UNIT
        self._beat_at: Optional[int] = None
        self._beat_wait = 1000
        self._handler_waits = False
        self._stall = stall
        self._blocked_since: Optional[int] = None
        self._blocked_at = now
        self._blocked_wait = 1000
        self._suspected: Optional[int] = None
        self._last_503 = self._probe_at = now
        self._rewound: Optional[int] = None
        self._rewound_at = now
        self._fin_sent = self._fin_again = self._linger = now
        self._promised: Optional[int] = None
        self._not_before = now

    # The handler's side

    def effective_limit(self) -> int:
        """Rule 29."""
        limit = min(self._limit, self.acked + self.retention)
        return limit if self.confirmed else min(limit, UNCONFIRMED_LIMIT)

    def can_offer(self) -> bool:
        return (self._packer.fin is None and not self._packer.split
                and self._packer.position < self.effective_limit())

    def has_unsent(self) -> bool:
        return self._cursor < len(self._units)

    def sending_parts(self) -> bool:
        """An item that spans units waits for credit; its `send` has not come back."""
        return self._packer.split

    def waits(self, now: int) -> None:
        """The handler has something, and there is no credit for it."""
        self._handler_waits = True
        self._look_at_credit(now)

    def offer(self, now: int, item: bytes) -> None:
        """Only after `can_offer`. Rule 35: a larger item is refused without harm to the stream."""
        if len(item) > self.max_item:
            raise ValueError(f"an item of {len(item)} bytes; the largest is {self.max_item}")
        self._handler_waits = False
        self._units += self._packer.offer(item, self.effective_limit())
        self._look_at_credit(now)

    def flush(self, now: int) -> None:
        """The handler yields: nothing waits for more (rule 21)."""
        if self.ended is None:
            self._units += self._packer.flush(self.effective_limit())
            self._look_at_credit(now)

    def finish(self, now: int, status: Status) -> None:
        """Everything that was offered precedes the end (rule 51)."""
        if self.ended is None and self._packer.fin is None:
            self._packer.fin = status
            self._handler_waits = False
            self.flush(now)

    def abort(self, now: int, status: Status, why: str = "local") -> None:
        """The end takes the place of all units that were not sent (rule 58)."""
        if self.ended is not None or self.fin is not None:
            return
        unsent = [unit for unit in self._units if unit.position >= self.sent]
        del self._units[len(self._units) - len(unsent):]
        self._cursor = min(self._cursor, len(self._units))
        self._units.append(self._packer.abort(status, self.sent, self.sent_items))
        self.handler = self.handler or why
        self._handler_waits = False
        self._look_at_credit(now)

    # Sending

    def cursor(self) -> int:
        return (self._units[self._cursor].position if self._cursor < len(self._units)
                else self._packer.position)

    def pump(self, now: int) -> bool:
        """Hands over units from the cursor on; true if there are more for the next turn."""
        handed = 0
        while self.ended is None and self._up and self._cursor < len(self._units):
            if handed >= TURN:
                return True
            unit = self._units[self._cursor]
            if unit.position >= self.effective_limit() and not (unit.fin and unit.bare):
                break
            if not self._send_unit(now, unit):
                break
            handed += len(unit.payload)
            self._cursor += 1
        self._look_at_credit(now)
        return False

    def _send_unit(self, now: int, unit: Kept) -> bool:
        first = unit.times_sent == 0
        headers: Dict[str, str] = {}
        if unit.position == 0:
            headers.update(self.metadata)
        if unit.position == 0 or not self.confirmed:
            headers[NAME] = self._answer
        if unit.fin is not None and unit.fin.code:
            headers.update(error_headers(unit.fin))
        if not self.mapped:
            control = not self.confirmed or (unit.fin is not None and not first)
        elif unit.fin is None:
            control = first and unit.position == 0
        else:
            control = not first and not self.confirmed and unit.position > 0
        if not self._hand_over(now, Outgoing(self.reply, unit.payload, headers, control)):
            return False
        unit.times_sent += 1
        if first:
            self.sent, self.sent_items = unit.end, unit.items
            self.units_sent += 1
            if unit.position == 0:
                self._beat_at = now + FIRST_BEAT
            if unit.fin is not None:
                self._on_fin_sent(now, unit)
        else:
            self.counts["sent_again"] += 1
        return True

    def _on_fin_sent(self, now: int, unit: Kept) -> None:
        self.fin = unit
        self._beat_at = None
        self._fin_sent = now
        self._fin_again = now + FIN_AGAIN
        self._linger = now + (SINGLE_LINGER if unit.position == 0 else 3 * self.heartbeat)

    def _send_beat(self, now: int, announce: bool) -> bool:
        """Mapped, the control subject goes along only where it is announced (rules 22, 23, 44)."""
        control = announce or not self.mapped
        number = self._announce + 1 if self.mapped and announce else 0
        headers = {} if self.confirmed else {NAME: self._answer}
        payload = wire.encode(wire.Beat(self.sid, number, self.cursor()))
        if not self._hand_over(now, Outgoing(self.reply, payload, headers, control)):
            return False
        self._announce = max(self._announce, number)
        return True

    def _hand_over(self, now: int, message: Outgoing) -> bool:
        if not self._send_message(message):
            self._not_before = now + 25
            return False
        self._last_sent = now
        if message.own_reply:
            self._last_control = now
        return True

    # What arrives

    def on_message(self, now: int, message: Incoming) -> None:
        if self.ended is not None:
            return
        kind = classify(message)
        if kind == "no_responders":
            if self._suspected is None:
                self.counts["suspicions"] += 1
                self._suspected = now
                self._probe_at = now + PROBE
            self._last_503 = now
        elif kind == "bare_empty":
            self._on_close(wire.DONE if self.fin is not None else wire.CANCELLED)
        elif kind == "foreign":
            self.counts["foreign"] += 1
        else:
            self._on_native(now, message)

    def _on_native(self, now: int, message: Incoming) -> None:
        try:
            frame = wire.decode(message.payload)
        except wire.Malformed:
            self.counts["malformed"] += 1
            return
        if frame.sid != self.sid:
            self.counts["foreign_stream"] += 1
            return
        self._last_valid = now
        self._suspected = None
        if isinstance(frame, wire.State):
            self._on_state(now, frame)
        elif isinstance(frame, wire.Close):
            self._on_close(frame.code)
        else:
            self.counts["ignored_kinds"] += 1

    def _on_state(self, now: int, state: wire.State) -> None:
        """Rule 40, in its order."""
        self.confirmed = True
        self._beat_at = None
        self._limit = max(self._limit, state.limit)
        ends = {unit.end for unit in self._units} | {self.acked}
        if not self.acked <= state.next <= self.sent or state.next not in ends:
            self.counts["stale_states"] += 1
        else:
            rises = state.next > self.acked
            if rises and self.fin is not None and self.fin.position > 0:
                self._linger = now + 3 * self.heartbeat
            rewind = state.rewind or (
                self.fin is not None and state.next < self.sent and not rises
                and now >= self._fin_sent + MISSED_END)
            self._acknowledge(state.next)
            again = self._rewound == state.next and now < self._rewound_at + SAME_REWIND
            if rewind and state.next < self.sent and not again:
                self.counts["rewinds"] += 1
                self._rewound, self._rewound_at = state.next, now
                self._cursor = 0
        self.flush(now)

    def _acknowledge(self, position: int) -> None:
        self.acked = position
        gone = 0
        while gone < len(self._units) and self._units[gone].end <= position:
            gone += 1
        del self._units[:gone]
        self._cursor = max(0, self._cursor - gone)

    def _on_close(self, code: int) -> None:
        if self.fin is None:
            self.handler = self.handler or "cancelled"
        names = {wire.DONE: "done", wire.UNWANTED: "unwanted", wire.DEADLINE: "deadline",
                 wire.PROTOCOL: "protocol"}
        self._forget(names.get(code, "cancelled"), code != wire.UNWANTED)

    def _forget(self, how: str, end_mapping: bool) -> None:
        """Rule 60: the mapping is not ours to end when the caller is gone or did not want us."""
        self.ended = how
        if end_mapping and self.mapped:
            self._send_message(Outgoing(self.reply, b""))

    def kept_bytes(self) -> int:
        return sum(len(unit.payload) for unit in self._units)

    def forget_ended(self) -> None:
        """There is no room for ended streams any more (rule 55)."""
        if self.ended is None:
            self._forget("no_room", True)

    def _gone(self) -> None:
        if self.fin is None:
            self.handler = self.handler or "gone"
        self._forget("gone", False)

    # Connection and clocks

    def on_down(self, now: int) -> None:
        if self._up:
            self._up = False
            self._down_at = now
            self._suspected = None

    def on_closed(self) -> None:
        """The connection will not come back (rule 45)."""
        if self.ended is None:
            self._gone()

    def on_up(self, now: int, unit_max: Optional[int] = None) -> None:
        """Clocks start anew (rule 45); the caller is shown where the stream stands (rule 44)."""
        if self._up or self.ended is not None:
            return
        self._up = True
        self._restart_clocks(now)
        largest = max((len(unit.payload) for unit in self._units), default=0)
        if unit_max is not None and unit_max < largest:
            self._send_message(Outgoing(self.reply, wire.encode(wire.Reset(self.sid))))
            self.handler = self.handler or "gone"
            self._forget("forgotten", True)
        elif self.fin is not None:
            self._send_unit(now, self.fin)
        elif self.sent:
            self._send_beat(now, True)

    def _restart_clocks(self, now: int) -> None:
        self._last_valid = now
        if self._beat_at is not None:
            self._beat_at, self._beat_wait = now + FIRST_BEAT, 1000
        if self._suspected is not None:
            self._suspected = self._last_503 = now
            self._probe_at = now + PROBE
        if self.fin is not None:
            self._fin_again = now + FIN_AGAIN
            self._linger = now + (3 * self.heartbeat if self.fin.position else SINGLE_LINGER)

    def _look_at_credit(self, now: int) -> None:
        """Blocked: there is something to send, all before it was handed over, and no credit."""
        blocked = (self.fin is None and self.ended is None
                   and (self._handler_waits or self._packer.waiting)
                   and self._cursor == len(self._units)
                   and self._packer.position >= self.effective_limit())
        if blocked and self._blocked_since is None:
            self._blocked_since = now
            self._blocked_at, self._blocked_wait = now + BLOCKED_BEAT, 1000
        elif self._packer.position < self.effective_limit() or self.fin is not None:
            self._blocked_since = None

    def _heartbeat_at(self) -> int:
        """Rule 46 (a) and (b)."""
        if self.mapped:
            return self._last_sent + min(self.heartbeat, 1000)
        return self._last_control + self.heartbeat

    def next_deadline(self) -> Optional[int]:
        if self.ended is not None:
            return None
        moments: List[Optional[int]] = []
        if self.fin is None:
            moments.append(self._deadline)
        if not self._up:
            moments.append(self._down_at + OUTAGE)
        else:
            if self._suspected is not None:
                moments += [self._suspected + SUSPICION, self._last_503 + QUIET, self._probe_at]
            if self.fin is not None:
                moments += [self._linger, self._fin_again if self.fin.position else None]
            else:
                moments.append(self._last_valid + 3 * self.heartbeat)
                if not self._units and self._packer.position == 0:
                    moments.append(self._first_at)
                if self.sent:
                    moments += [self._beat_at, self._heartbeat_at()]
                if self._blocked_since is not None:
                    moments += [self._blocked_at, self._blocked_since + self._stall]
        known = [moment for moment in moments if moment is not None]
        self._promised = max(min(known), self._not_before) if known else None
        return self._promised

    def tick(self, now: int) -> None:
        """Ends what is over, and sends the BEATs and ENDs that are due; units go by `pump`."""
        if self.ended is not None:
            return
        if self.fin is None and self._deadline is not None and now >= self._deadline:
            self._deadline = None
            code = wire.CODES["DEADLINE_EXCEEDED"]
            self.abort(now, Status(code, "the deadline of the call has passed"), "deadline")
        if not self._up:
            if now >= self._down_at + OUTAGE:
                self._gone()
            return
        if self._promised is not None and now > self._promised + self.heartbeat // 2:
            self._restart_clocks(now)
        self._promised = None
        if self._suspected is not None and not self._tick_suspected(now):
            return
        if self.fin is not None:
            self._tick_ending(now)
        else:
            self._tick_running(now)

    def _tick_suspected(self, now: int) -> bool:
        assert self._suspected is not None
        if now >= self._suspected + SUSPICION:
            self._gone()
            return False
        if now >= self._last_503 + QUIET:
            self._suspected = None
        elif now >= self._probe_at:
            self._probe_at = now + PROBE
            if self.fin is not None:
                self._send_unit(now, self.fin)
            else:
                self._send_beat(now, False)
        return True

    def _tick_ending(self, now: int) -> None:
        assert self.fin is not None
        if now >= self._linger:
            self._forget("done" if self.fin.position == 0 else "unconfirmed", True)
        elif self.fin.position and now >= self._fin_again and self._send_unit(now, self.fin):
            self._fin_again = now + self.heartbeat

    def _tick_running(self, now: int) -> None:
        if now >= self._last_valid + 3 * self.heartbeat:
            self._gone()
            return
        if not self._units and self._packer.position == 0 and now >= self._first_at:
            self.flush(now)
            if not self._units:
                self._units.append(self._packer.empty_unit())
        if self._blocked_since is not None and now >= self._blocked_since + self._stall:
            self.abort(now, Status(wire.CODES["ABORTED"], "no credit for too long"), "stalled")
            return
        if not self.sent:
            return
        if self._beat_at is not None and now >= self._beat_at:
            if self._send_beat(now, True):
                self._beat_at = now + min(self._beat_wait, self.heartbeat)
                self._beat_wait = min(2 * self._beat_wait, self.heartbeat)
        if self._blocked_since is not None and now >= self._blocked_at:
            if self._send_beat(now, False):
                self._blocked_at = now + self._blocked_wait
                self._blocked_wait = min(2 * self._blocked_wait, self.heartbeat)
                self._on_blocked()
        if now >= self._heartbeat_at():
            self._send_beat(now, False)
