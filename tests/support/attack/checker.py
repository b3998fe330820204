"""Hold what a page heard against what was committed.

Pure. Each connection stands for itself: a subscription begins where its answer
says, or at the cursor that the page gave. Since every cursor that is said must
be true when it is said and stay true, whoever resumes from one misses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.values.cursor import parse_cursor
from support.attack.durable import DurableRun
from support.attack.finding import STRICT, Finding, Kind, Rules
from support.attack.history import Asked, Closed, Entry, Heard, Opened
from support.attack.plain import PlainRun
from support.attack.truth import Journal, PlainEvents

__all__ = ["check"]

ANSWERS = {
    "subscribe": ("subscribed", "error"),
    "unsubscribe": ("unsubscribed", "error"),
    "ping": ("pong", "error"),
}
"""What may answer a request, by its type."""


def check(
    history: Sequence[Entry],
    journal: Journal,
    plain: PlainEvents,
    rules: Rules = STRICT,
) -> list[Finding]:
    """Return what is wrong with one page's history.

    Args:
        plain: the events of plain channels; every other channel is durable.
    """
    findings: list[Finding] = []
    connection = _Connection(journal, plain, rules, findings)
    for entry in history:
        match entry:
            case Opened():
                connection = _Connection(journal, plain, rules, findings)
            case Asked():
                connection.asked[entry.id] = entry
            case Heard():
                connection.hear(entry)
            case Closed():
                connection.close(entry.complete)
    return findings


class _Unknown:
    """A channel that is plain only because the schema is away: not judged."""

    def notification(self, message: dict[str, Any], number: int | None) -> None:
        pass

    def gap(self, message: dict[str, Any]) -> None:
        pass


class _Connection:
    """What is known of one connection while its entries are read."""

    def __init__(
        self,
        journal: Journal,
        plain: PlainEvents,
        rules: Rules,
        findings: list[Finding],
    ) -> None:
        self._journal = journal
        self._plain = plain
        self._rules = rules
        self._findings = findings
        #: Requests that have no answer yet, by id.
        self.asked: dict[int, Asked] = {}
        self._runs: dict[str, DurableRun | PlainRun | _Unknown] = {}

    def hear(self, heard: Heard) -> None:
        message = heard.message
        request = self._request_of(message)
        match message["type"]:
            case "notification":
                self._notification(message)
            case "subscribed":
                if request is not None:
                    self._subscribed(message, request, heard.at)
            case "gap":
                run = self._runs.get(message["channel"])
                if run is None:
                    self._report(Kind.STRAY, str(message))
                else:
                    run.gap(message)
            case "unsubscribed":
                self._unsubscribed(message, request)
            case "heartbeat":
                self._heartbeat(message)
            case "error":
                if request is None and "channel" in message:
                    self._runs.pop(message["channel"], None)

    def close(self, complete: bool) -> None:
        if complete:
            for request in self.asked.values():
                self._report(Kind.UNANSWERED, f"{request} on a connection at rest")
        self.asked.clear()
        self._runs.clear()

    def _report(self, kind: Kind, text: str) -> None:
        self._findings.append(Finding(kind, text))

    def _request_of(self, message: dict[str, Any]) -> Asked | None:
        """Return the request that a message answers, which it does only once."""
        kind = message["type"]
        if "id" not in message:
            if kind == "subscribed":
                self._report(Kind.ANSWERED_ODDLY, f"without an id: {message}")
            return None
        request = self.asked.pop(message["id"], None)
        if request is None:
            self._report(Kind.ANSWERED_ODDLY, f"nobody waits for {message}")
        elif kind not in ANSWERS[request.type]:
            self._report(Kind.ANSWERED_ODDLY, f"{request}: {message}")
            return None
        return request

    def _notification(self, message: dict[str, Any]) -> None:
        run = self._runs.get(message["channel"])
        if run is None:
            self._report(Kind.STRAY, str(message))
        else:
            run.notification(message, _number(message))

    def _subscribed(self, message: dict[str, Any], request: Asked, at: float) -> None:
        channel = message["channel"]
        run = self._runs.get(channel)
        if isinstance(run, DurableRun):
            run.subscribed_again(message)
        elif run is None:
            self._runs[channel] = self._begin(message, request, at)

    def _begin(
        self, message: dict[str, Any], request: Asked, at: float
    ) -> DurableRun | PlainRun | _Unknown:
        channel = message["channel"]
        if channel in self._plain:
            return PlainRun(self._plain[channel], self._report, request, at)
        if message["durable"]:
            return DurableRun(
                self._journal, self._rules, self._report, request, message
            )
        if not self._rules.removed:
            self._report(Kind.ANSWERED_ODDLY, f"not durable: {message}")
        return _Unknown()

    def _unsubscribed(self, message: dict[str, Any], request: Asked | None) -> None:
        """The last word about a channel: what was asked before has its answer."""
        channel = message["channel"]
        self._runs.pop(channel, None)
        if request is None:
            return
        for earlier in list(self.asked.values()):
            if earlier.channel == channel and earlier.id < request.id:
                del self.asked[earlier.id]
                self._report(Kind.UNANSWERED, f"{earlier} before {message}")

    def _heartbeat(self, message: dict[str, Any]) -> None:
        if "cursor" not in message:
            return
        cursor = parse_cursor(message["cursor"])
        for run in self._runs.values():
            if isinstance(run, DurableRun):
                run.claim(cursor, f"heartbeat {cursor}")


def _number(message: dict[str, Any]) -> int | None:
    data = message.get("data")
    return data.get("n") if isinstance(data, dict) else None
