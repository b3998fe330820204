r"""The language of cases/*.txt.

A case begins with its name; a case without handshake lines has the usual
handshake before it, whose welcome is read::

    == a ping is answered with its payload
    > ping "hello"
    < pong "hello"

A table makes a case of each row; `$name` stands for the cell under `name`; a
case that is not named so is named by the row's first cell::

    == a close code is echoed: $code
    | code
    | 1000
    | 1001
    > close $code
    < close $code ""

What goes out::

    > FRAME         one write
    >3 FRAME        in writes of three bytes
    >*10 FRAME      ten times, one write
    >> FRAME        waits for the next `>`, to go out in the same write
    > finish        end of our side without a Close frame
    > reset         a reset of the connection

    KIND [unfinished] [rsv1 rsv2 rsv3] [unmasked] [key=00000000]
         [announced=N] [length=16|64] [ITEM ...]

KIND is continuation, text, binary, close, ping, pong or 0x0 to 0xf; `bytes` is
no frame, only the items; `ask` is the message ping with the items as its id,
`padded=N` blanks it to N bytes. An ITEM is a string in quotes with Python's
escapes, sent as UTF-8, or bytes in hexadecimal: `"ab" [f0 9f] "\u20ac"*3`.
`close 1000 "why"` puts the code before the reason; `close [03]` is the payload.

What must come back, and nothing else before it::

    <*3 EXPECTED                      three times
    < answer ITEM ... [size=N]        the pong to an `ask`
    < message 'JSON' [size=N]         a text message
    < error CODE [id=ID] [size=N]     the message error; size: at least
    < pong ITEM ...
    < close 1002                      with any reason;  < close 1000 "" : with none
    < close                           an empty one
    < end [after=S] [within=S]        the connection ends (default: 1.5 s)
    < gone [after=S] [within=S]       the server's socket is closed altogether

A case that does not end itself is ended by a close handshake in order.

The handshake::

    request GET /ws HTTP/1.1          another request line
    set NAME: VALUE                   in place of the header
    add NAME: VALUE                   beside it;  add*99: so often
    drop NAME
    line ITEM ...                     any line among the headers
    head ITEM ...                     all of it, to the empty line
    cut N                             the head in writes of N bytes
    > FRAME                           right behind the head, in the same write
    status 101
    has NAME: VALUE                   a header of the answer
    lacks NAME
    status 101                        the answer to what was behind the head

A VALUE in quotes or brackets is made of ITEMs. A line about a request after the
`status` begins another one on the connection. After a refusal with `Connection:
close` the connection must end at once; after any other one another request is
served, unless the case goes on itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from conformance import steps
from conformance.lines import END_WITHIN, expected, items, outgoing, value_of
from conformance.peer import encode
from conformance.steps import Step

__all__ = ["Case", "CaseError", "load", "parse"]

_HEADERS = [
    ("Host", b"bridge.example"),
    ("Upgrade", b"websocket"),
    ("Connection", b"Upgrade"),
    ("Sec-WebSocket-Key", steps.KEY.encode()),
    ("Sec-WebSocket-Version", b"13"),
]

_TIMES = re.compile(r"<(?:\*(\d+))?\s+(.*)")
_REQUEST_LINES = ("request", "set", "add", "drop", "line", "head", "cut")


class CaseError(ValueError):
    """A case file cannot be read."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a case file."""

    where: str
    text: str


Played = tuple[Line, Step]


@dataclass(frozen=True, slots=True)
class Case:
    """One connection to the server.

    Attributes:
        name: a sentence, unique in its file.
        steps: what to do, each with the line that says so.
    """

    name: str
    steps: tuple[Played, ...]


def load(path: Path) -> list[Case]:
    """Read the cases of a file."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, file: str) -> list[Case]:
    """Read cases.

    Raises:
        CaseError: names the file and the line.
    """
    cases: list[Case] = []
    for name, lines in _blocks(text, file):
        try:
            cases += [_case(*row) for row in _rows(name, lines)]
        except CaseError:
            raise
        except (ValueError, KeyError, SyntaxError, TypeError) as exc:
            raise CaseError(f"{lines[0].where}: {name}: {exc!r}") from exc
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise CaseError(f"{file}: two cases are called {name!r}")
    return cases


def _blocks(text: str, file: str) -> Iterator[tuple[str, list[Line]]]:
    name, lines = "", list[Line]()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("== "):
            if name:
                yield name, lines
            name, lines = line[3:], []
        elif line and not line.startswith("#"):
            lines.append(Line(f"{file}:{number}", line))
    if name:
        yield name, lines


def _rows(name: str, lines: list[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Write a table out: the case once for each of its rows."""
    table = [
        [cell.strip() for cell in line.text[1:].split("|")]
        for line in lines
        if line.text.startswith("|")
    ]
    body = [line for line in lines if not line.text.startswith("|")]
    if not table:
        yield name, body
        return
    for row in table[1:]:
        cells = dict(zip(table[0], row, strict=True))

        def fill(text: str, cells: dict[str, str] = cells) -> str:
            return re.sub(r"\$(\w+)", lambda found: cells[found[1]], text)

        title = name if "$" in name else f"{name}: {row[0]}"
        yield fill(title), [replace(line, text=fill(line.text)) for line in body]


# One case.


def _case(name: str, lines: list[Line]) -> Case:
    usual = not any(line.text.startswith("status ") for line in lines)
    request = _Request()
    found = request.steps(lines[0], 101) if usual else list[Played]()
    pending = not usual
    #: The place of the last Status among the steps.
    answer = 1
    held = b""
    for line in lines:
        word, _, rest = line.text.partition(" ")
        if word.partition("*")[0] in _REQUEST_LINES:
            if not pending:
                request, pending = _Request(), True
            request.read(word, rest)
        elif word == "status":
            if pending:
                found += request.steps(line, int(rest))
            else:
                found.append((line, steps.Status(int(rest), steps.KEY)))
            pending = False
            answer = max(i for i, (_, s) in enumerate(found) if type(s) is steps.Status)
        elif word in ("has", "lacks"):
            status = found[answer][1]
            assert isinstance(status, steps.Status)
            header, _, value = rest.partition(": ")
            wanted = (header, value if word == "has" else None)
            status = replace(status, headers=(*status.headers, wanted))
            found[answer] = found[answer][0], status
        elif pending:
            request.behind += outgoing(line.text)[1]
        elif word.startswith("<"):
            found += _incoming(line)
        elif line.text in ("> finish", "> reset"):
            found.append((line, steps.Leave(reset=rest == "reset")))
        else:
            hold, data, piece = outgoing(line.text)
            held += data
            if not hold:
                found.append((line, steps.Send(held, piece)))
                held = b""
    if held or pending:
        raise ValueError("something is never sent")
    return Case(name, tuple([*found, *_ending(*found[-1])]))


def _ending(line: Line, last: Step) -> list[Played]:
    """What every case ends with that has not ended itself."""
    if isinstance(last, steps.Status):
        return [(line, steps.Refused())]
    if isinstance(last, (steps.End, steps.Gone)) or last == steps.Leave(reset=True):
        return []
    if isinstance(last, steps.Close):
        return [(line, steps.End(END_WITHIN))]
    line = replace(line, text=f"{line.text}  (and then a close handshake)")
    return [
        (line, steps.Send(encode(0x8, (1000).to_bytes(2, "big")))),
        (line, steps.Close(1000, "")),
        (line, steps.End(END_WITHIN)),
    ]


@dataclass(slots=True)
class _Request:
    """A handshake that is being put together."""

    line: str = "GET /ws HTTP/1.1"
    headers: list[tuple[str, bytes]] = field(default_factory=lambda: list(_HEADERS))
    #: All of the head, where a case writes it itself.
    head: bytes | None = None
    #: Bytes right behind the head.
    behind: bytes = b""
    #: Bytes a write; 0: all at once.
    piece: int = 0

    def read(self, word: str, rest: str) -> None:
        """Take one line about the request."""
        word, _, times = word.partition("*")
        if word == "request":
            self.line = rest
        elif word == "head":
            self.head = items(rest)
        elif word == "line":
            self.headers.append(("", items(rest)))
        elif word == "cut":
            self.piece = int(rest)
        elif word == "drop":
            self._drop(rest)
        else:
            name, _, value = rest.partition(":")
            if word == "set":
                self._drop(name)
            self.headers += [(name, value_of(value.strip()))] * int(times or 1)

    def _drop(self, name: str) -> None:
        self.headers = [header for header in self.headers if header[0] != name]

    def steps(self, line: Line, code: int) -> list[Played]:
        """Return what to do with it."""
        head = self.head
        if head is None:
            head = steps.request_head(self.line, self.headers)
        key = dict(self.headers).get("Sec-WebSocket-Key", b"").decode("latin-1")
        found: list[Played] = [
            (line, steps.Send(head + self.behind, self.piece)),
            (line, steps.Status(code, key.strip())),
        ]
        if code == 101:
            found.append((line, steps.Welcome()))
        return found


def _incoming(line: Line) -> list[Played]:
    times = _TIMES.fullmatch(line.text)
    if times is None:
        raise ValueError(f"cannot read {line.text!r}")
    return [(line, expected(times[2]))] * int(times[1] or 1)
