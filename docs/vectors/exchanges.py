"""Whole exchanges: what each side sends, when, and how it ends.

The steps are written by hand from the rules; only positions and bytes are computed.
"""

from exchange import *
from wire import *


def ordinary():
    out = []
    x = begun("ordinary", "Three items in two messages, then the end.", [21, 22, 24, 51, 53])
    x.sends(100, b"two", b"three").unit(100, items(b"two", b"three"))
    x.ends(200).unit(200, fin=status(items=3)).close(200, DONE)
    out.append(x.done(ended(3), [b"one", b"two", b"three"]))

    x = begun("end-with-data-and-trailers", "The end travels with the last item.", [15, 51])
    x.ends(100, b"last", details=b"sum: 2").unit(100, items(b"last"), status(items=2, details=b"sum: 2"))
    out.append(x.close(100, DONE).done(ended(2, b"sum: 2"), [b"one", b"last"]))

    x = Exchange("single-message", "The whole answer is one message: no STATE, no CLOSE.", [24, 53, 54])
    data = items(b"one", b"two")
    x.ends(5, b"one", b"two").unit(5, data, status(items=2), first=True)
    out.append(x.done(ended(2), [b"one", b"two"]))

    x = Exchange("no-items", "A success without items.", [51, 54])
    x.ends(5).unit(5, fin=status(), first=True)
    out.append(x.done(ended(0)))

    x = Exchange("fails-at-once", "The handler ran and failed without an item. It is no refusal.", [15, 52])
    x.ends(5, code=5, message="no such file")
    x.unit(5, fin=status(code=5, message="no such file"), first=True, failure=(5, "no such file"))
    out.append(x.done(failed(5, "no such file")))

    x = begun("fails-after-items", "What was sent precedes the failure.", [15, 51, 52])
    fin = {"code": 13, "message": "the disk is gone", "details": b"\x00\x01"}
    x.ends(100, b"two", **fin)
    x.unit(100, items(b"two"), status(items=2, **fin), failure=(13, "the disk is gone")).close(100, DONE)
    out.append(x.done(failed(13, "the disk is gone", details=b"\x00\x01"), [b"one", b"two"]))

    x = Exchange("refusal", "The call was not taken; it certainly did not run.", [25, 58])
    fin = {"code": 14, "flags": NOT_PROCESSED | RETRYABLE, "retry_after": 250, "message": "draining"}
    x.ends(1, how="refuses", **fin)
    x.message(1, "responder", "caller", unit(SID, 0, fin=status(**fin)), {"Natstream": "1", **service_error(14, "draining")})
    out.append(x.done(failed(14, "draining", 3, "refused", retry_after=250)))

    x = Exchange("long-item", "An item of 70,000 bytes spans two units; the second waits for credit.", [12, 13, 31, 35])
    content = b"L" * 70000
    data = items(content)
    x.sends(10, content)
    x.unit(10, data[:65528], first=True)
    x.state(10, 65784, 65784 + W)
    x.unit(10, data[65528:])
    x.ends(20).unit(20, fin=status(items=1)).close(20, DONE)
    out.append(x.done(ended(1), [content]))

    x = Exchange("first-message-after-200-ms", "The handler is slow. The first STATE is lost, a BEAT asks for another.", [21, 23, 47])
    x.unit(200, first=True).state(225, 256, 256 + W, lost=True)
    x.responder(700, beat(SID, 0, 256), first=True).state(725, 256, 256 + W)
    x.ends(800, b"x").unit(800, items(b"x"), status(items=1)).close(800, DONE)
    out.append(x.done(ended(1), [b"x"]))
    return out


def credit():
    out = []
    small = {"roles": ["caller"], "max_window": 8192, "open": "1;w=8192;m=16777216;h=5000"}
    x = Exchange(
        "slow-reader",
        "A window of 8 KiB and a user who does not read until 2,000 ms. The responder is held up and says so.",
        [29, 30, 31, 32, 46, 47],
        **{**small, "roles": ["caller", "responder"]},
    )
    block = b"x" * 3000
    data = items(block)
    x.add(0, user="stops")
    x.sends(10, block).unit(10, data, first=True)
    x.sends(10, block).unit(10, data, first=True).state(10, 6516, 8192)
    x.sends(20, block).unit(20, data)
    x.add(30, handler={"waits": True}, about="position 9774 is not below the limit 8192")
    x.responder(530, beat(SID, 0, 9774), control=True).state(555, 9774, 8192)
    x.responder(1530, beat(SID, 0, 9774), control=True).state(1555, 9774, 8192)
    x.add(2000, user="reads").state(2000, 9774, 9774 + 8192)
    x.sends(2000, block).unit(2000, data)
    x.ends(2010, block).unit(2010, data, status(items=5)).close(2010, DONE)
    out.append(x.done(ended(5), [block] * 5))

    x = Exchange(
        "stalled",
        "A caller that is alive, and gives no credit for longer than the stall limit, here 2 s.",
        [36, 46, 47, 58],
        **{**small, "roles": ["caller", "responder"]},
        stall_ms=2000,
    )
    block = b"y" * 8000
    x.add(0, user="stops")
    x.sends(10, block).unit(10, items(block), first=True).state(10, 8258, 8192)
    x.add(30, handler={"waits": True})
    x.responder(530, beat(SID, 0, 8258), control=True).state(555, 8258, 8192)
    x.responder(1530, beat(SID, 0, 8258), control=True).state(1555, 8258, 8192)
    why = "the caller did not read for longer than the stall limit"
    x.unit(2030, fin=status(code=10, items=1, message=why), failure=(10, why), own_text=True).close(2030, DONE)
    out.append(x.done(failed(10, why), [block], handler="stalled"))

    x = Exchange("beyond-the-limit", "A unit at the limit or above it breaks the protocol.", [30, 33], **small)
    x.add(0, user="stops")
    x.unit(10, items(b"y" * 8000), first=True).state(10, 8258, 8192)
    x.unit(20, items(b"z")).close(20, PROTOCOL)
    out.append(x.done(protocol("CreditExceeded"), [b"y" * 8000]))

    x = Exchange("end-without-credit", "An end without data needs no credit.", [30, 33], **small)
    x.add(0, user="stops")
    x.unit(10, items(b"y" * 8000), first=True).state(10, 8258, 8192)
    x.unit(20, fin=status(items=1)).close(20, DONE)
    out.append(x.done(ended(1), [b"y" * 8000]))

    x = Exchange("drain-in-the-middle", "The deadline of a drain takes the place of what was not sent, here the rest of an item.", [52, 58])
    content = b"L" * 70000
    data = items(content)
    x.add(0, user="stops")
    x.sends(10, content).unit(10, data[:65528], first=True).state(10, 65784, W)
    end = {"code": 14, "flags": RETRYABLE, "message": "draining"}
    x.ends(100, how="aborts", **end)
    x.unit(100, fin=status(**end), failure=(14, "draining")).close(100, DONE)
    x.add(100, user="reads")
    out.append(x.done(failed(14, "draining", RETRYABLE), handler="local"))

    x = begun("drain-before-the-handler-yields", "An item that was gathered and not sent is left out and not counted.", [58])
    x.ends(100, b"two", how="aborts", **end)
    x.unit(100, fin=status(items=1, **end), failure=(14, "draining")).close(100, DONE)
    out.append(x.done(failed(14, "draining", RETRYABLE), [b"one"], handler="local"))
    return out


def loss():
    out = []
    x = begun("gap-and-rewind", "A unit is lost; the next one shows it.", [37, 39, 40, 41])
    second, third = unit(SID, 260, items(b"two")), unit(SID, 520, items(b"three"))
    x.sends(40, b"two").responder(40, second, lost=True)
    x.sends(50, b"three").responder(50, third)
    x.state(50, 260, 260 + W, rewind=True)
    x.responder(50, second).responder(50, third)
    x.position = 782
    x.ends(60).unit(60, fin=status(items=3)).close(60, DONE)
    out.append(x.done(ended(3), [b"one", b"two", b"three"]))

    x = begun("lost-tail-shown-by-a-beat", "The last unit is lost; the heartbeat after 5 s shows it.", [38, 39, 40, 46])
    x.sends(40, b"two").responder(40, second, lost=True)
    x.responder(5010, beat(SID, 0, 520), control=True)
    x.state(5010, 260, 260 + W, rewind=True)
    x.responder(5010, second)
    x.position = 520
    x.ends(5100).unit(5100, fin=status(items=2)).close(5100, DONE)
    out.append(x.done(ended(2), [b"one", b"two"]))

    x = begun("lost-end", "The end is lost; it is repeated after 1 s, with the control subject.", [22, 54])
    fin = unit(SID, 260, fin=status(items=1))
    x.ends(100).responder(100, fin, lost=True)
    x.responder(1100, fin, control=True).close(1100, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("lost-close", "The confirmation of the end is lost; the repeated end is nobody's and gets CLOSE(UNWANTED).", [9, 54])
    x.ends(100).responder(100, fin).close(100, DONE, lost=True)
    x.responder(1100, fin, control=True).close(1100, UNWANTED)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("repeated-unit", "A unit that arrives twice is dropped once.", [37, 42], roles=["caller"])
    x.responder(50, second).responder(60, second).responder(70, unit(SID, 0, items(b"one")))
    x.position = 520
    x.unit(80, fin=status(items=2)).close(80, DONE)
    out.append(x.done(ended(2), [b"one", b"two"]))

    x = begun("asked-again-by-the-clock", "What is missing is asked for again without a further sign of it.", [39, 48], roles=["caller"])
    x.responder(50, third)
    for at in (50, 1050, 3050, 7050, 12050):
        x.state(at, 260, 260 + W, rewind=True)
    out.append(x.done(lost(1, "silent"), [b"one"], at=15050))

    x = begun("beat-while-something-is-missing", "It is answered, though what is missing was asked for just now.", [38, 39, 47], roles=["caller"])
    x.responder(100, beat(SID, 0, 520), control=True).state(100, 260, 260 + W, rewind=True)
    x.responder(500, beat(SID, 0, 520), control=True).state(525, 260, 260 + W)
    x.responder(600, second)
    x.position = 520
    x.unit(700, fin=status(items=2)).close(700, DONE)
    out.append(x.done(ended(2), [b"one", b"two"]))

    x = begun("rewinds-that-are-not-followed", "They are stale, or the same as one that was followed less than 500 ms ago.", [40], roles=["responder"])
    x.sends(40, b"two").responder(40, second)
    for next, about in ((0, "below what was acknowledged"), (100, "inside a unit"), (780, "above what was sent")):
        x.state(50, next, 260 + W, rewind=True, about=about)
    x.state(60, 260, 260 + W, rewind=True).responder(60, second)
    x.state(300, 260, 260 + W, rewind=True, about="240 ms after the same")
    x.state(560, 260, 260 + W, rewind=True).responder(560, second)
    x.position = 520
    x.ends(600).unit(600, fin=status(items=2)).close(600, DONE)
    out.append(x.done(None))

    x = Exchange("rewind-of-a-single-message", "An end in unit 0 is sent again when it is asked for.", [22, 40, 54], roles=["responder"])
    whole = unit(SID, 0, items(b"one"), status(items=1))
    x.ends(5, b"one").responder(5, whole, first=True, about="arrives late")
    x.state(100, 0, W, rewind=True).responder(100, whole, first=True)
    out.append(x.done(None))

    x = begun("late-state-without-the-end", "A STATE that says nothing of an end that was last sent 2 s ago asks for it.", [40, 47, 54])
    fin = unit(SID, 260, fin=status(items=1))
    x.ends(100).responder(100, fin, lost=True).responder(1100, fin, control=True, lost=True)
    x.state(5035, 260, 260 + W).responder(5035, fin, control=True).close(5035, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("responder-reconnects", "What the responder's connection lost is sent again when it is back.", [41, 44, 45])
    x.sends(90, b"two").responder(90, second, lost=True)
    x.add(100, connection="responder", **{"is": "down"})
    x.sends(200, b"three")
    x.add(1100, connection="responder", **{"is": "up"})
    x.responder(1100, beat(SID, 0, 520), control=True, about="520: the second unit was handed over, the third was not")
    x.responder(1100, third)
    x.state(1101, 260, 260 + W, rewind=True)
    x.responder(1101, second).responder(1101, third)
    x.position = 782
    x.ends(1200).unit(1200, fin=status(items=3)).close(1200, DONE)
    out.append(x.done(ended(3), [b"one", b"two", b"three"]))

    x = begun("caller-reconnects", "What the caller's connection lost is asked for when it is back.", [43, 45])
    x.add(100, connection="caller", **{"is": "down"})
    x.sends(110, b"two").responder(110, second, lost=True)
    x.add(2000, connection="caller", **{"is": "up"})
    x.state(2000, 260, 260 + W, rewind=True)
    x.responder(2000, second)
    x.position = 520
    x.ends(2100).unit(2100, fin=status(items=2)).close(2100, DONE)
    out.append(x.done(ended(2), [b"one", b"two"]))
    return out


def endings():
    out = []
    x = Exchange("nobody-listens", "The server answers for the subject.", [26], roles=["caller"])
    x.add(1, **{**NOBODY, "to": "caller"})
    out.append(x.done({"kind": "no_responders"}))

    x = Exchange("unanswered", "No message of the stream for 5 s.", [27], roles=["caller"])
    out.append(x.done({"kind": "unanswered"}, at=5000))

    x = begun("cancel", "The user loses interest.", [56])
    x.add(100, user="cancels").close(100, CANCELLED)
    out.append(x.done({"kind": "cancelled"}, [b"one"], handler="cancelled"))

    x = Exchange("cancel-before-the-lock", "The cancel is local; the answer that comes later is unwanted.", [9, 56], roles=["caller"])
    x.add(5, user="cancels")
    x.unit(10, items(b"one"), first=True).close(10, UNWANTED)
    out.append(x.done({"kind": "cancelled"}))

    x = begun("deadline", "The total deadline passes at the caller.", [16, 57], roles=["caller"], open=OPEN + ";d=1000", deadline_ms=1000)
    x.close(1000, DEADLINE)
    out.append(x.done({"kind": "timed_out", "clock": "deadline"}, [b"one"], at=1000))

    x = begun("silence", "The responder is gone without a word: 3 heartbeats after its last message.", [47, 48], roles=["caller"])
    x.state(5035, 260, 260 + W).state(10035, 260, 260 + W)
    out.append(x.done(lost(1, "silent"), [b"one"], at=15010))

    x = begun("caller-silent", "The caller is gone without a word.", [46, 48], roles=["responder"])
    for at in (5010, 10010, 15010):
        x.responder(at, beat(SID, 0, 260), control=True, lost=True)
    out.append(x.done(None, handler="gone", at=15035))

    x = begun("forgotten", "The responder does not know the stream any more.", [50], roles=["caller"])
    x.state(5035, 260, 260 + W).responder(5035, reset(SID))
    out.append(x.done(lost(1, "forgotten"), [b"one"]))

    x = begun("suspicion-that-passes", "A 503 after the lock is a suspicion; the caller asks every 250 ms.", [49], roles=["caller"])
    nobody = {**NOBODY, "to": "caller"}
    x.state(5035, 260, 260 + W).add(5035, **nobody)
    x.state(5285, 260, 260 + W).add(5285, **nobody)
    x.responder(5300, beat(SID, 0, 260), control=True).state(5325, 260, 260 + W)
    x.unit(5400, fin=status(items=1)).close(5400, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("suspicion-of-5-s", "A 503 to each probe for 5 s: the responder is gone.", [49], roles=["caller"])
    for at in range(5035, 10035, 250):
        x.state(at, 260, 260 + W).add(at, **nobody)
    out.append(x.done(lost(1, "unreachable"), [b"one"], at=10035))

    x = begun("suspicion-of-5-s-at-the-responder", "A 503 to each probe for 5 s: the caller is gone.", [46, 49], roles=["responder"])
    for at in range(5010, 10010, 250):
        x.responder(at, beat(SID, 0, 260), control=True).add(at, **{**NOBODY, "to": "responder"})
    out.append(x.done(None, handler="gone", at=10010))

    x = begun("deadline-at-the-responder", "It ends the stream by itself; the word of the caller is lost.", [57, 58], roles=["responder"], open=OPEN + ";d=1000")
    why = "the deadline of the call passed"
    x.close(1000, DEADLINE, lost=True)
    x.unit(1000, fin=status(code=4, items=1, message=why), failure=(4, why), own_text=True)
    out.append(x.done(None, handler="deadline"))

    x = begun("bare-empty-not-mapped", "No mapping can have ended: what is missing is asked for, and the stream goes on.", [7, 39, 52], roles=["caller"])
    x.message(50, "somebody", "caller", b"", about="the end of another answer to an Open that arrived twice")
    x.state(50, 260, 260 + W, rewind=True)
    x.unit(500, fin=status(items=1)).close(500, DONE)
    out.append(x.done(ended(1), [b"one"]))
    return out


def hostile():
    out = []
    x = begun("two-responders", "A second responder is told that nobody wants its stream.", [4, 8], roles=["caller"])
    x.message(40, "other responder", "caller", unit(OTHER, 0, items(b"uno")), {"Natstream": ANSWER}, True)
    x.message(40, "caller", "other responder", close(OTHER, UNWANTED))
    x.message(50, "other responder", "caller", unit(OTHER, 259, fin=status(items=1)), about="no subject to answer to")
    x.message(60, "other responder", "caller", reset(OTHER), about="ends nothing here")
    x.unit(70, fin=status(items=1)).close(70, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = Exchange("states-of-another-stream", "They neither confirm a stream nor end it.", [4, 22])
    x.sends(10, b"one").unit(10, items(b"one"), first=True)
    x.message(20, "somebody", "responder", state(OTHER, 260, 1 << 40))
    x.message(20, "somebody", "responder", close(OTHER, CANCELLED))
    x.sends(30, b"two").unit(30, items(b"two"), first=True).state(35, 520, 520 + W)
    x.ends(50).unit(50, fin=status(items=2)).close(50, DONE)
    out.append(x.done(ended(2), [b"one", b"two"]))

    x = Exchange("what-cannot-lock", "Only a UNIT or BEAT with the header locks; all else is ignored before.", [8, 17], roles=["caller"])
    x.responder(1, unit(OTHER, 0, items(b"no header")))
    x.responder(2, reset(OTHER), first=True, control=False)
    x.responder(3, head(0x2A, OTHER), first=True, control=False)
    x.responder(4, unit(OTHER, 0)[:7], first=True, control=False, about="cut")
    x.ends(5, b"one").unit(5, items(b"one"), status(items=1), first=True)
    out.append(x.done(ended(1), [b"one"]))

    x = Exchange("locks-with-a-beat", "The first unit is lost; the BEAT locks and shows the gap.", [8, 23, 38], roles=["caller"])
    first = unit(SID, 0, items(b"one"))
    x.responder(10, first, first=True, lost=True)
    x.responder(510, beat(SID, 0, 260), first=True).state(510, 0, W, rewind=True)
    x.message(510, "responder", "caller", first, {"Natstream": ANSWER})
    x.position = 260
    x.unit(600, fin=status(items=1)).close(600, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = Exchange("foreign-answer", "A first message of another dialect.", [8], roles=["caller"])
    x.message(1, "responder", "caller", b"plain text")
    out.append(x.done(protocol("ForeignAnswer")))

    x = Exchange("answer-of-another-version", "The header names a version that was not offered.", [16, 19], roles=["caller"])
    x.message(1, "responder", "caller", unit(SID, 0, items(b"one")), {"Natstream": "2;r=1"}, True)
    x.close(1, UNWANTED)
    out.append(x.done(protocol("Header")))

    for name, code, words, number, message in (
        ("refused-by-another-version", "12", "UNIMPLEMENTED: only version 2", 12, "only version 2"),
        ("refused-with-a-code-of-another-kind", "500", "too many requests", 2, "too many requests"),
    ):
        x = Exchange(name, "Only what is the same in all versions is read: the two service-error headers.", [8, 19], roles=["caller"])
        other = head(UNIT, OTHER) + b"\xff\xff"
        x.message(1, "responder", "caller", other, {"Natstream": "2", "Nats-Service-Error": words, "Nats-Service-Error-Code": code})
        out.append(x.done(failed(number, message, NOT_PROCESSED, "refused")))

    x = Exchange("another-format", "A message of a version that was not offered, whose unit cannot be read: the stream id stands in its place.", [8, 16], roles=["caller"])
    x.message(1, "responder", "caller", head(UNIT, SID) + b"\xff\xff", {"Natstream": "2;r=1"}, True).close(1, UNWANTED)
    out.append(x.done(protocol("Header")))

    x = Exchange("answer-without-control", "Nobody asked for that.", [8, 16, 66], roles=["caller"])
    x.message(1, "responder", "caller", unit(SID, 0, items(b"one")), {"Natstream": "1;h=5000;c=0"}, True).close(1, UNWANTED)
    out.append(x.done(protocol("Header")))

    x = Exchange("whole-answer-without-control", "Nobody asked for that, and it does not matter.", [16, 66], roles=["caller"])
    x.message(1, "responder", "caller", unit(SID, 0, items(b"one"), status(items=1)), {"Natstream": "1;h=5000;c=0"})
    out.append(x.done(ended(1), [b"one"]))

    x = Exchange("not-processed-with-an-item", "It contradicts itself, and is no refusal.", [25, 52], roles=["caller"])
    fin = {"code": 14, "flags": NOT_PROCESSED | RETRYABLE, "message": "draining"}
    x.unit(1, items(b"one"), status(items=1, **fin), first=True, failure=(14, "draining"))
    out.append(x.done(failed(14, "draining", 3), [b"one"]))

    x = Exchange("strays-of-each-kind", "After the verdict, who still sends is told so; nothing else is answered.", [9, 56], roles=["caller"])
    x.add(5, user="cancels")
    x.responder(10, unit(SID, 0, items(b"one")), first=True).close(10, UNWANTED)
    x.responder(11, beat(SID, 0, 260), first=True).close(11, UNWANTED)
    for at, stray in ((12, reset(SID)), (13, head(0x2A, SID)), (14, close(SID, CANCELLED)), (15, unit(SID, 0)[:7])):
        x.message(at, "somebody", "caller", stray, None, True)
    x.responder(16, unit(SID, 260, items(b"two")), about="no subject to answer to")
    out.append(x.done({"kind": "cancelled"}))

    x = begun("another-stream-of-each-kind", "After the lock, each message of another stream is answered that can be read.", [8], roles=["caller"])
    for at, stray in ((40, beat(OTHER, 0, 0)), (41, reset(OTHER)), (42, head(0x2A, OTHER))):
        x.message(at, "other responder", "caller", stray, None, True)
        x.message(at, "caller", "other responder", close(OTHER, UNWANTED))
    x.message(43, "other responder", "caller", unit(OTHER, 0)[:7], None, True, about="cut")
    x.unit(50, fin=status(items=1)).close(50, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("foreign-after-the-lock", "Foreign messages are ignored and counted.", [8], roles=["caller"])
    x.message(40, "somebody", "caller", b"plain text")
    x.message(41, "somebody", "caller", b"", {"X": "y"})
    x.unit(50, fin=status(items=1)).close(50, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("unknown-kinds-and-flags", "They are ignored; the known part counts.", [17])
    x.responder(40, head(0x2A, SID) + b"?")
    x.responder(41, state(SID, 0, 0), about="of the other direction")
    x.steps[-2]["from"] = x.steps[-1]["from"] = "somebody"
    x.message(42, "somebody", "responder", head(0x2B, SID))
    x.message(43, "somebody", "responder", beat(SID, 9, 9), about="of the other direction")
    x.message(44, "somebody", "responder", state(OTHER, 260, 1 << 40), about="of another stream")
    x.message(45, "somebody", "responder", close(OTHER, CANCELLED), about="of another stream")
    x.ends(50).unit(50, fin=status(items=1)).close(50, DONE)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("malformed-with-the-sid", "It ends the caller's stream.", [17], roles=["caller"])
    x.message(40, "responder", "caller", unit(SID, 260)[:7]).close(40, PROTOCOL)
    out.append(x.done(protocol("Truncated"), [b"one"]))

    x = begun("malformed-without-the-sid", "It is ignored, and always is at the responder.", [17])
    x.message(40, "somebody", "caller", unit(OTHER, 260)[:7])
    x.message(41, "somebody", "caller", unit(SID, 260)[:5])
    x.message(42, "somebody", "responder", state(SID, 260, 1 << 20)[:8])
    x.ends(50).unit(50, fin=status(items=1)).close(50, DONE)
    out.append(x.done(ended(1), [b"one"]))

    for name, data, count, what, about in (
        ("ends-inside-an-item", varint(10) + b"half", 1, "ItemUnfinished", "A success inside an item is none."),
        ("wrong-count", b"", 2, "WrongCount", "A success with another number of items is none."),
    ):
        x = begun(name, about, [52], roles=["caller"])
        x.unit(50, data, status(items=count)).close(50, PROTOCOL)
        out.append(x.done(protocol(what), [b"one"]))
    return out


def mapped():
    out = []
    sees = "a bare empty message: the server delivers it and ends the mapping"
    x = begun("across-accounts", "Both mappings are ended, each with one bare empty message.", [22, 47, 60, 61], mapped=True)
    x.responder(1010, beat(SID, 0, 260), about="traffic keeps the mapping alive; no subject goes along")
    x.ends(1500).unit(1500, fin=status(items=1)).close(1500, DONE)
    x.message(1500, "responder", "caller", b"", about=sees)
    x.message(1500, "caller", "responder", b"", about=sees)
    out.append(x.done(ended(1), [b"one"]))

    x = Exchange("across-accounts-single-message", "No control mapping was made; the other is ended after 2 s.", [22, 54, 60], mapped=True)
    x.ends(5, b"one").unit(5, items(b"one"), status(items=1), first=True, control=False)
    x.message(2005, "responder", "caller", b"", about=sees)
    out.append(x.done(ended(1), [b"one"]))

    x = Exchange("across-accounts-announced-again", "Each announcement of the control subject is another mapping; the highest counts.", [22, 23, 24, 42, 61], mapped=True)
    first = unit(SID, 0, items(b"one"))
    x.sends(10, b"one").responder(10, first, first=True, alias=0)
    x.state(35, 260, 260 + W, lost=True, alias=0)
    x.responder(510, beat(SID, 1, 260), first=True, alias=1)
    x.message(520, "somebody", "caller", first, {"Natstream": ANSWER}, True, alias=0, about="the first message again, from an old socket")
    x.state(535, 260, 260 + W, alias=1)
    x.position = 260
    x.ends(600).unit(600, fin=status(items=1)).close(600, DONE, alias=1)
    x.message(600, "responder", "caller", b"", about=sees)
    for alias in (0, 1):
        x.message(600, "caller", "responder", b"", alias=alias, about=sees)
    out.append(x.done(ended(1), [b"one"]))

    x = begun("across-accounts-bare-empty", "The mapping has ended: nothing comes for 5 s.", [7, 39, 52, 61], roles=["caller"], mapped=True)
    x.message(50, "responder", "caller", b"", about="or the server")
    for at in [50, 1050, 3050]:
        x.state(at, 260, 260 + W, rewind=True)
    x.close(5050, CANCELLED)
    x.message(5050, "caller", "responder", b"", about=sees)
    out.append(x.done(lost(1, "mapping_ended"), [b"one"], at=5050))

    x = begun("across-accounts-caller-reconnects", "The mapping of the reply subject has ended with the caller's subscription.", [61, 62], roles=["caller"], mapped=True)
    x.add(100, connection="caller", **{"is": "down"})
    x.add(2000, connection="caller", **{"is": "up"})
    x.close(2000, CANCELLED)
    x.message(2000, "caller", "responder", b"", about=sees)
    out.append(x.done(lost(1, "mapping_ended"), [b"one"], at=2000))

    x = begun("across-accounts-cancel", "The responder learns of a cancel by CLOSE, or by the bare empty message if CLOSE is lost.", [56, 60, 61], mapped=True)
    x.add(100, user="cancels").close(100, CANCELLED, lost=True)
    x.message(100, "caller", "responder", b"", about=sees)
    x.message(100, "responder", "caller", b"", about=sees)
    out.append(x.done({"kind": "cancelled"}, [b"one"], handler="cancelled"))
    return out


def exchanges():
    return ordinary() + credit() + loss() + endings() + hostile() + mapped()
