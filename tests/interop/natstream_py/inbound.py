"""The caller's half of one attempt, without I/O and without a clock: messages and moments go in,
items and one verdict come out.

The host calls `on_message` for each message, then `tick`, and `tick` again at `next_deadline`.
What is due is sent in `tick` only, so that one STATE serves all reasons (rule 32), also what the
user took in between. All times are milliseconds of one clock that only rises.
"""

from collections import Counter, deque
from typing import Callable, Deque, List, Optional, Sequence, Tuple

import wire
from header import Answer, HeaderError, Open, parse_answer, write_open
from items import Budget, ItemReader, OutOfRoom
from peer import (Incoming, Outgoing, classify, is_mapped, is_usable, natstream_header,
                  refuse_stream, service_error)
from verdict import Verdict

MIN_WINDOW = 8192
NEAR_WINDOW = 2 << 20
MAX_MAPPED = 256
STATE_DELAY, UNANSWERED, OUTAGE = 25, 5000, 30000
PROBE, QUIET, SUSPICION = 250, 1000, 5000
FIRST_REWIND = 1000


class Inbound:
    def __init__(self, send: Callable[[Outgoing], bool], now: int, *, window: int = 65536,
                 max_item: int = 16 << 20, heartbeat: int = 5000,
                 deadline_ms: Optional[int] = None, prefixes: Sequence[str] = (),
                 budget: Optional[Budget] = None,
                 may_refuse: Callable[[], bool] = lambda: True) -> None:
        """`send` says whether the message was handed over; it never waits (rule 67).
        `may_refuse` bounds CLOSE(UNWANTED) for the whole connection (section 19)."""
        self._send = send
        self._may_refuse = may_refuse
        self.window = max(window, MIN_WINDOW)
        self.open = Open(self.window, max_item, heartbeat, deadline_ms)
        self._prefixes = prefixes
        self.heartbeat = heartbeat
        self.counts: Counter = Counter()
        self.verdict: Optional[Verdict] = None
        self._reader = ItemReader(max_item, budget or Budget(256 << 20))
        self._items: Deque[bytes] = deque()
        self._taken = 0
        # End of each unit that is not consumed, and the items that complete it (rule 31).
        self._unconsumed: Deque[Tuple[int, int]] = deque()
        self.next = 0
        self._consumed = 0
        self._granted = self.window
        self._reported = 0
        self.sid: Optional[int] = None
        self.control: Optional[str] = None
        self._announce = -1
        self._mapped: List[str] = []
        self._retention = wire.VARINT_MAX
        self._up = True
        self._down_at = now
        self._deadline = None if deadline_ms is None else now + deadline_ms
        self._unanswered = now + UNANSWERED
        self._state_due: Optional[int] = None
        self._last_state = now
        self._rewind_at: Optional[int] = None
        self._rewind_wait = FIRST_REWIND
        self._last_valid = now
        self._suspected: Optional[int] = None
        self._last_503 = self._probe_at = now
        self._mapping_gone: Optional[int] = None
        self._promised: Optional[int] = None
        self._not_before = now

    def open_header(self) -> str:
        return write_open(self.open)

    # What the user does

    def take(self) -> Optional[bytes]:
        """The next item. The host calls `tick` after a round of these."""
        if not self._items:
            return None
        self._taken += 1
        item = self._items.popleft()
        self._consume()
        return item

    def cancel(self, now: int) -> None:
        if self.verdict is None:
            self._items.clear()
            self._end(Verdict("cancelled", self._reader.count), wire.CANCELLED)

    # What arrives

    def on_message(self, now: int, message: Incoming) -> None:
        if self.verdict is not None:
            return
        kind = classify(message)
        if kind == "native":
            if self.sid is None:
                self._before_lock(now, message)
            else:
                self._locked(now, message)
        elif kind == "no_responders":
            self._on_503(now)
        elif kind == "bare_empty":
            self._on_bare_empty(now)
        elif self.sid is None:
            self._lost_protocol("ForeignAnswer")
        else:
            self.counts["foreign"] += 1

    def _before_lock(self, now: int, message: Incoming) -> None:
        """Rule 8: only a UNIT or a BEAT with a good header locks."""
        value = natstream_header(message)
        if value is None:
            self.counts["before_lock"] += 1
            return
        try:
            answer = parse_answer(value)
        except HeaderError:
            self._bad_answer(message)
            return
        try:
            frame = wire.decode(message.payload)
        except wire.Malformed:
            self.counts["malformed"] += 1
            return
        if not isinstance(frame, (wire.Unit, wire.Beat)):
            self.counts["before_lock"] += 1
            return
        whole = isinstance(frame, wire.Unit) and frame.fin is not None
        if answer.c == 0 and not whole:  # Nobody asked for that (rule 16).
            self._bad_answer(message)
            return
        self._lock(now, frame.sid, answer)
        self._locked(now, message)

    def _bad_answer(self, message: Incoming) -> None:
        """Of other versions only the fixed part is read: a refusal, or the stream id (rule 16)."""
        status = service_error(message)
        if status is not None:
            self._end(Verdict("refused", 0, status), None)
            return
        if len(message.payload) >= 6 and self._usable(message.reply) and self._may_refuse():
            sid = int.from_bytes(message.payload[2:6], "big")
            self._publish_all(refuse_stream(sid, message.reply))
        self._lost_protocol("Header")

    def _lock(self, now: int, sid: int, answer: Answer) -> None:
        self.sid = sid
        self.heartbeat = answer.h
        if answer.r is not None:
            self._retention = answer.r
        self._last_valid = self._last_state = now
        self._state_due = now + STATE_DELAY

    def _locked(self, now: int, message: Incoming) -> None:
        try:
            frame = wire.decode(message.payload)
        except wire.Malformed as error:
            self.counts["malformed"] += 1
            if error.sid == self.sid:
                self._lost_protocol(error.error)
            return
        if frame.sid != self.sid:
            self.counts["foreign_responder"] += 1
            if self._usable(message.reply) and self._may_refuse():
                self._publish_all(refuse_stream(frame.sid, message.reply))
            return
        self._last_valid = now
        self._suspected = self._mapping_gone = None
        if isinstance(frame, wire.Unit):
            self._learn_control(message.reply, 0)
            self._on_unit(now, frame)
        elif isinstance(frame, wire.Beat):
            known = self._learn_control(message.reply, frame.announce)
            self._on_beat(now, frame, known)
        elif isinstance(frame, wire.Reset):
            self._end(Verdict("lost", self._reader.count, detail="forgotten"), None)
        else:
            self.counts["ignored_kinds"] += 1

    def _on_unit(self, now: int, unit: wire.Unit) -> None:
        """Rule 37, in its order."""
        if unit.position < self.next:
            self.counts["repeated"] += 1
            return
        if unit.position > self.next:
            self._gap(now)
            return
        if (unit.data or unit.fin is None) and unit.position >= self._granted:
            self._lost_protocol("CreditExceeded")
            return
        try:
            whole = self._reader.read(unit.data)
        except wire.Malformed as error:
            self._lost_protocol(error.error)
            return
        except OutOfRoom:
            status = wire.Status(wire.CODES["RESOURCE_EXHAUSTED"], "too many unfinished items")
            self._end(Verdict("failed", self._reader.count, status), wire.CANCELLED)
            return
        self._items.extend(whole)
        self.next = unit.end
        self._unconsumed.append((unit.end, self._reader.count))
        self._consume()
        self._rewind_at = None
        if unit.fin is not None:
            self._complete(now, unit)

    def _complete(self, now: int, unit: wire.Unit) -> None:
        status, count = unit.fin, self._reader.count
        assert status is not None
        close = None if unit.position == 0 else wire.DONE
        overdue = self._deadline is not None and now >= self._deadline
        if status.code == 0:
            if self._reader.missing or unit.items != count:
                self._lost_protocol("ItemUnfinished" if self._reader.missing else "WrongCount")
            else:
                self._end(Verdict("ended", count, status), close)
        elif status.code == wire.CODES["DEADLINE_EXCEEDED"] and overdue:
            self._end(Verdict("timed_out", count, detail="deadline"), close)
        elif unit.position == 0 and status.not_processed and not unit.data:
            self._end(Verdict("refused", 0, status), close)
        else:
            self._end(Verdict("failed", count, status), close)

    def _on_beat(self, now: int, beat: wire.Beat, has_control: bool) -> None:
        if beat.position > self.next:
            self._gap(now)
        blocked = beat.position >= min(self._granted, self._reported + min(self._retention, NEAR_WINDOW))
        if has_control or blocked:
            self._want_state(now + STATE_DELAY)

    def _on_503(self, now: int) -> None:
        if self.sid is None:
            self._end(Verdict("no_responders"), None)
            return
        if self._suspected is None:
            self.counts["suspicions"] += 1
            self._suspected = now
            self._probe_at = now + PROBE
        self._last_503 = now

    def _on_bare_empty(self, now: int) -> None:
        """It names no stream: a suspicion, that what is missing is asked for (rule 52)."""
        self.counts["bare_empty"] += 1
        if self.sid is None:
            return
        self._gap(now)
        if self.control is not None and is_mapped(self.control) and self._mapping_gone is None:
            self._mapping_gone = now + SUSPICION

    def _gap(self, now: int) -> None:
        """Rule 39: at once; what comes on top waits for the clock."""
        self.counts["gaps"] += 1
        if self._rewind_at is None:
            self._rewind_at = now
            self._rewind_wait = FIRST_REWIND

    # Credit

    def _consume(self) -> None:
        while self._unconsumed and self._unconsumed[0][1] <= self._taken:
            self._consumed = self._unconsumed.popleft()[0]

    def _credit_is_due(self) -> bool:
        """Rule 32."""
        half = max(1, min(self.window, self._retention, NEAR_WINDOW) // 2)
        return (self._consumed + self.window - self._granted >= half
                or self.next - self._reported >= half)

    # Connection and clocks

    def on_down(self, now: int) -> None:
        if self._up:
            self._up = False
            self._down_at = now
            self._suspected = None

    def on_closed(self) -> None:
        """The connection will not come back (rule 45)."""
        if self.verdict is None:
            self._up = False
            self._end(Verdict("lost", self._reader.count, detail="disconnected"), None)

    def on_up(self, now: int) -> None:
        """Clocks start anew (rule 45), and what was lost meanwhile is asked for (rules 43, 62)."""
        if self._up or self.verdict is not None:
            return
        self._up = True
        self._restart_clocks(now)
        if self.sid is None:
            return
        if self.control is not None and is_mapped(self.control):
            self._end(Verdict("lost", self._reader.count, detail="mapping_ended"), None)
        else:
            self._rewind_at = now
            self._rewind_wait = FIRST_REWIND

    def _restart_clocks(self, now: int) -> None:
        self._unanswered = now + UNANSWERED
        self._last_valid = now
        self._last_state = now
        if self._suspected is not None:
            self._suspected = self._last_503 = now
            self._probe_at = now + PROBE
        if self._rewind_at is not None:
            self._rewind_at = now + self._rewind_wait
        if self._mapping_gone is not None:
            self._mapping_gone = now + SUSPICION

    def next_deadline(self) -> Optional[int]:
        """When `tick` is to be called at the latest."""
        if self.verdict is not None:
            return None
        moments = [self._deadline]
        if not self._up:
            moments.append(self._down_at + OUTAGE)
        elif self.sid is None:
            moments.append(self._unanswered)
        else:
            moments += [self._last_valid + 3 * self.heartbeat, self._mapping_gone]
            if self.control is not None:
                moments += [self._state_due, self._rewind_at, self._last_state + self.heartbeat]
            if self._suspected is not None:
                moments += [self._suspected + SUSPICION, self._last_503 + QUIET, self._probe_at]
        known = [moment for moment in moments if moment is not None]
        if not known:
            return None
        # What could not be handed over is tried again soon, but not in a busy loop.
        self._promised = max(min(known), self._not_before)
        return self._promised

    def tick(self, now: int) -> None:
        """Ends what is over, and sends what is due."""
        if self.verdict is not None:
            return
        if self._deadline is not None and now >= self._deadline:
            self._end(Verdict("timed_out", self._reader.count, detail="deadline"), wire.DEADLINE)
        elif not self._up:
            if now >= self._down_at + OUTAGE:
                self._end(Verdict("lost", self._reader.count, detail="disconnected"), None)
        else:
            if self._promised is not None and now > self._promised + self.heartbeat // 2:
                self._restart_clocks(now)
            self._promised = None
            if self.sid is None:
                if now >= self._unanswered:
                    self._end(Verdict("unanswered"), None)
            else:
                self._tick_locked(now)

    def _tick_locked(self, now: int) -> None:
        count = self._reader.count
        if self._suspected is not None:
            if now >= self._suspected + SUSPICION:
                self._end(Verdict("lost", count, detail="unreachable"), None)
                return
            if now >= self._last_503 + QUIET:
                self._suspected = None
            elif now >= self._probe_at:
                self._probe_at = now + PROBE
                self._want_state(now)
        if now >= self._last_valid + 3 * self.heartbeat:
            self._end(Verdict("lost", count, detail="silent"), None)
            return
        if self._mapping_gone is not None and now >= self._mapping_gone:
            self._end(Verdict("lost", count, detail="mapping_ended"), None)
            return
        if self._rewind_at is not None and now >= self._rewind_at:
            if self._send_state(now, True):
                self._rewind_at = now + self._rewind_wait
                self._rewind_wait = min(2 * self._rewind_wait, self.heartbeat)
        elif (self._credit_is_due() or now >= self._last_state + self.heartbeat
              or (self._state_due is not None and now >= self._state_due)):
            self._send_state(now, False)

    # What is sent

    def _usable(self, subject: str) -> bool:
        if subject and not is_usable(subject, self._prefixes):
            self.counts["refused_subject"] += 1
            return False
        return bool(subject)

    def _learn_control(self, subject: str, announce: int) -> bool:
        """The highest `announce` counts, then the newest (rule 24)."""
        if not self._usable(subject):
            return False
        if is_mapped(subject) and subject not in self._mapped:
            self._mapped.append(subject)
            if len(self._mapped) > MAX_MAPPED:
                self._send(Outgoing(self._mapped.pop(0), b""))
        if announce >= self._announce:
            self._announce = announce
            self.control = subject
        return True

    def _want_state(self, moment: int) -> None:
        if self._state_due is None or moment < self._state_due:
            self._state_due = moment

    def _send_state(self, now: int, rewind: bool) -> bool:
        """What cannot be handed over stays due (rule 67)."""
        if self.control is None:
            return False
        limit = max(self._granted, self._consumed + self.window)
        frame = wire.State(self.sid or 0, self.next, limit, rewind)
        if not self._send(Outgoing(self.control, wire.encode(frame),
                                   own_reply=not is_mapped(self.control))):
            self._want_state(now)
            self._not_before = now + STATE_DELAY
            return False
        self.counts["rewinds"] += rewind
        self._granted = limit
        self._reported = self.next
        self._last_state = now
        self._state_due = None
        return True

    def _publish_all(self, messages: List[Outgoing]) -> None:
        for message in messages:
            self._send(message)

    def _lost_protocol(self, what: str) -> None:
        verdict = Verdict("lost", self._reader.count, detail="protocol", what=what)
        self._end(verdict, wire.PROTOCOL)

    def _end(self, verdict: Verdict, close: Optional[int]) -> None:
        """One verdict (rule 52). Mapped control subjects are always ended (rule 61)."""
        self.verdict = verdict
        self._reader.close()
        if self.sid is None or self.control is None:
            return
        if self._mapped and close is None:
            close = wire.DONE if verdict.kind in ("ended", "failed", "refused") else wire.CANCELLED
        if close is not None and self._up:
            self._send(Outgoing(self.control, wire.encode(wire.Close(self.sid, close))))
            self._publish_all([Outgoing(subject, b"") for subject in self._mapped])
