"""Whole exchanges: what each side sends, when, and how it ends.

The steps are written by hand from the rules; only positions and bytes are computed.
"""

from wire import *

SID = 0x5EED0001
OTHER = 0x0BADCAFE
OPEN = "1;w=65536;m=16777216;h=5000"
ANSWER = "1;r=2097152;h=5000"
W = 65536


class Exchange:
    def __init__(self, name, about, rules, open=OPEN, roles=("caller", "responder"), mapped=False, **settings):
        self.head = {
            "name": name,
            "about": about,
            "rules": list(rules),
            "roles": list(roles),
            "mapped": mapped,
            "sid": SID,
            "settings": {"max_window": W, **settings},
        }
        self.steps = []
        self.position = 0
        self.message(0, "caller", "service", b"go", headers={"Natstream": open}, control=True)

    def add(self, at, **step):
        self.steps.append({"at": at, **step})
        return self

    def message(self, at, sender, to, payload, headers=None, control=False, lost=False, alias=None, about=None):
        step = {"from": sender, "to": to, "control": control, "headers": headers, "hex": text(payload)}
        if alias is not None:
            step["alias"] = alias
        if lost:
            step["lost"] = True
        if about:
            step["about"] = about
        return self.add(at, **step)

    # The responder's side.

    def sends(self, at, *contents):
        return self.add(at, handler={"sends": [text(content) for content in contents]})

    def ends(self, at, *contents, how="ends", **end):
        flags = end.get("flags", 0)
        fields = {
            "code": end.get("code", 0),
            "not_processed": bool(flags & NOT_PROCESSED),
            "retryable": bool(flags & RETRYABLE),
            "retry_after_ms": str(end.get("retry_after", 0)),
            "message": end.get("message", ""),
            "details": text(end.get("details", b"")),
        }
        return self.add(at, handler={"sends": [text(content) for content in contents], how: fields})

    def unit(self, at, data=b"", fin=None, first=False, **more):
        """The next unit; `first`: the stream is not confirmed, so header and control subject go along."""
        payload = unit(SID, self.position, data, fin)
        self.position = after(self.position, data)
        return self.responder(at, payload, first, **more)

    def responder(self, at, payload, first=False, control=None, failure=None, **more):
        headers = {"Natstream": ANSWER} if first else None
        if failure is not None:
            code, message = failure
            headers = {**(headers or {}), **service_error(code, message)}
        return self.message(at, "responder", "caller", payload, headers, first if control is None else control, **more)

    # The caller's side.

    def state(self, at, next, limit, rewind=False, **more):
        control = not self.head["mapped"]
        return self.message(at, "caller", "responder", state(SID, next, limit, rewind), control=control, **more)

    def close(self, at, code, **more):
        return self.message(at, "caller", "responder", close(SID, code), **more)

    def done(self, verdict, contents=(), handler=None, at=None):
        """`handler`: what the responder's handler learns; `at`: when the verdict falls, if no message brings it."""
        expect = {"items": [text(content) for content in contents], "verdict": verdict}
        if at is not None:
            expect["at"] = at
        if handler:
            expect["handler"] = handler
        return {**self.head, "steps": self.steps, "expect": expect}


def service_error(code, message=""):
    name = CODES[code] + (": " + message if message else "")
    return {"Nats-Service-Error": name, "Nats-Service-Error-Code": str(code)}


def ended(count, trailers=b""):
    return {"kind": "ended", "items": str(count), "trailers": text(trailers)}


def failed(code, message="", flags=0, kind="failed", details=b"", retry_after=0):
    return {
        "kind": kind,
        "code": code,
        "message": message,
        "details": text(details),
        "not_processed": bool(flags & NOT_PROCESSED),
        "retryable": bool(flags & RETRYABLE),
        "retry_after_ms": str(retry_after),
    }


def lost(count, cause):
    return {"kind": "lost", "items": str(count), "cause": cause}


def protocol(what):
    return {"kind": "protocol", "what": what}


def begun(name, about, rules, **more):
    """A stream whose first item was sent at 10 ms and whose confirmation arrived at 35 ms; both sides stand at 260."""
    exchange = Exchange(name, about, rules, **more)
    data = items(b"one")
    exchange.sends(10, b"one").unit(10, data, first=True)
    return exchange.state(35, 260, 260 + W)


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
    x.ends(10, content)
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
    x.add(1, **{"from": "server", "to": "caller", "status": 503, "control": False, "headers": {}, "hex": ""})
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
    nobody = {"from": "server", "to": "caller", "status": 503, "control": False, "headers": {}, "hex": ""}
    x.state(5035, 260, 260 + W).add(5035, **nobody)
    x.state(5285, 260, 260 + W).add(5285, **nobody)
    x.responder(5300, beat(SID, 0, 260), control=True).state(5325, 260, 260 + W)
    x.unit(5400, fin=status(items=1)).close(5400, DONE)
    out.append(x.done(ended(1), [b"one"]))

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

    x = begun("across-accounts-cancel", "The responder learns of a cancel by CLOSE, or by the bare empty message if CLOSE is lost.", [56, 60, 61], mapped=True)
    x.add(100, user="cancels").close(100, CANCELLED, lost=True)
    x.message(100, "caller", "responder", b"", about=sees)
    x.message(100, "responder", "caller", b"", about=sees)
    out.append(x.done({"kind": "cancelled"}, [b"one"], handler="cancelled"))
    return out


def exchanges():
    return ordinary() + credit() + loss() + endings() + hostile() + mapped()
