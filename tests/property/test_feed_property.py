"""Whatever happens, a client gets the journal's entries after its cursor.

Replay pages, live batches, full backlogs, lost sessions and reconnects come in
any order; each write may be followed by a pause in which clients come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.doubles import messages

from bridge.core import entries as entries_module
from bridge.core.entries import Entry, Need, Page
from bridge.core.fan_out import FanOut
from bridge.core.hub import Hub
from bridge.core.subscription import Before, State, Subscription
from bridge.values.channels import Patterns
from bridge.values.cursor import Cursor, parse_cursor
from bridge.values.errors import BadCursor
from bridge.values.message import Batch
from bridge.wire import native

CHANNELS = "abc"
EPOCH = "e1"
MAX_WAITING = 1
"""Chunks that an outlet keeps before it drops."""


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries_module, "MAX_PAGE_ENTRIES", 2)
        yield


class SlowOutlet:
    """Follows the rules of the real one; its socket can be stuck."""

    def __init__(self) -> None:
        self.stuck = False
        self.waiting: list[tuple[bytes, Subscription | None, Before]] = []
        self.calls: list[Callable[[], None]] = []
        self.received: list[dict[str, Any]] = []

    @property
    def idle(self) -> bool:
        return not self.waiting

    def when_idle(self, call: Callable[[], None]) -> None:
        if self.idle:
            call()
        else:
            self.calls.append(call)

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: Before = None
    ) -> None:
        if not self.stuck and self.idle:
            self.received += messages(chunk)
            return
        if len(self.waiting) >= MAX_WAITING:
            self._drop()
            if owner is not None and not owner.follows:
                return
        self.waiting.append((chunk, owner, before))

    def _drop(self) -> None:
        head, *rest = self.waiting
        before_each: dict[Subscription, list[Before]] = {}
        for _, owner, before in rest:
            if owner is not None:
                before_each.setdefault(owner, []).append(before)
        self.waiting = [head, *(one for one in rest if one[1] is None)]
        for owner, found in before_each.items():
            assert owner.dropped(found) == b""

    def release(self) -> None:
        """The socket takes everything."""
        self.stuck = False
        waiting, self.waiting = self.waiting, []
        for chunk, _, _ in waiting:
            self.received += messages(chunk)
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Client:
    """A browser that keeps its cursor; it reconnects with it."""

    def __init__(self, house: House, channel: str) -> None:
        self._house = house
        self.channel = channel
        self.cursor: str | None = None
        #: Positions that came, over all connections.
        self.positions: list[int] = []
        #: The position of the first `subscribed`.
        self.start: int | None = None
        self.connect()

    def connect(self) -> None:
        self.outlet = SlowOutlet()
        self._read = 0
        cursor = None if self.cursor is None else parse_cursor(self.cursor)
        self.subscription = Subscription(
            self.channel, codec=native, outlet=self.outlet, cursor=cursor
        )
        self._house.hub.subscribe(self.subscription)

    def handle(self) -> None:
        """Handle what was received."""
        for message in self.outlet.received[self._read :]:
            kind = message["type"]
            assert kind in ("subscribed", "notification", "interrupted", "restored")
            assert message["channel"] == self.channel
            if kind == "subscribed":
                assert message["resumed"] == (self.cursor is not None)
                if self.start is None:
                    self.start = parse_cursor(message["cursor"]).position
                    self.cursor = message["cursor"]
            elif kind == "notification":
                assert "cursor" in message
                self.cursor = message["cursor"]
                position = parse_cursor(message["cursor"]).position
                assert message["text"] == f"{self.channel}{position}"
                self.positions.append(position)
        self._read = len(self.outlet.received)

    def reconnect(self) -> None:
        self.leave()
        self.connect()

    def leave(self) -> None:
        self.handle()
        self._house.hub.unsubscribe(self.subscription)
        before = len(self.outlet.received)
        self.outlet.release()
        del self.outlet.received[before:]  # the socket is gone

    def visit_another_worker(self, entries: int) -> None:
        """Be served for a while by one that is faster, and come back."""
        self.leave()
        if self.cursor is not None:
            after = parse_cursor(self.cursor).position
            journal = self._house.journal[after : after + entries]
            for position, channel in enumerate(journal, start=after + 1):
                if channel == self.channel:
                    self.positions.append(position)
            self.cursor = str(Cursor(EPOCH, after + len(journal)))
        self.connect()


class House:
    """A hub, and a journal with one reader."""

    def __init__(self, recent: int) -> None:
        self.journal: list[str] = []  # the channel of each position
        self.clients: list[Client] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.need: Need | None = None
        #: What was read of the tail, and not handed on yet.
        self.read: list[Entry] = []
        self._now = 0.0
        self.hub = Hub(
            want=lambda channel: State.LIVE,
            unwant=lambda channel: None,
            fan_out=FanOut(clock=self._clock, pause=self._pause),
            max_recent_bytes=recent,
        )
        self.hub.feed.opened(EPOCH, 0, 0)
        self.hub.know(Patterns(["*"]))
        for channel in CHANNELS[:2]:
            self.come(channel)

    def _clock(self) -> float:
        self._now += 1  # time for a pause, always
        return self._now

    def _pause(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop()()

    # What clients do, also in a pause.

    def client(self, number: int) -> Client | None:
        return self.clients[number % len(self.clients)] if self.clients else None

    def come(self, channel: str) -> None:
        self.clients.append(Client(self, channel))

    # What the reader of the journal does, one after another.

    def publish(self, channels: str) -> None:
        self.journal += channels

    def read_tail(self, most: int) -> None:
        feed = self.hub.feed
        after = feed.position
        rows = self.journal[after : after + most]
        self.read = [
            Entry(
                position,
                channel,
                f"{channel}{position}" if self.hub.wants(channel) else None,
            )
            for position, channel in enumerate(rows, start=after + 1)
        ]

    def advance(self) -> None:
        """Hand it on; clients may have come since it was read."""
        feed, entries = self.hub.feed, self.read
        self.read = []
        fresh = entries and entries[0].position == feed.position + 1
        if fresh and feed.state is State.LIVE:
            feed.advance(entries, entries[-1].position, _not_plain)

    def tail(self, most: int) -> None:
        self.read_tail(most)
        self.advance()

    def ask(self) -> None:
        self.need = self.hub.feed.work()

    def answer(self, most: int) -> None:
        """The page that was asked for comes; others had their turn meanwhile."""
        need, self.need = self.need, None
        if need is None:
            return
        found = [
            (position, f"{channel}{position}")
            for position, channel in enumerate(self.journal, start=1)
            if channel == need.channel and need.after < position <= need.upto
        ]
        upto = need.upto if len(found) <= most else found[most - 1][0]
        page = Page(found[:most], upto, EPOCH, 0, len(self.journal))
        self.hub.feed.replayed(need, page)

    def lose(self) -> None:
        self.hub.journal_lost()

    def find(self) -> None:
        self.hub.feed.opened(EPOCH, 0, len(self.journal))

    def finish(self) -> None:
        """Let everything come to rest."""
        self.meanwhile.clear()
        self.need = None
        self.read = []
        self.find()
        for client in self.clients:
            client.outlet.release()
        for _ in range(10_000):
            self.tail(1000)
            self.ask()
            if self.need is None and not self.hub.feed.behind:
                break
            self.answer(2)
        else:
            raise AssertionError("it does not come to rest")
        for client in self.clients:
            client.handle()


def _not_plain(batch: Batch) -> None:
    assert batch.cursors is not None


numbers = st.integers(0, 5)
clients_do = st.one_of(
    st.builds(lambda c: lambda h: h.come(c), st.sampled_from(CHANNELS)),
    st.builds(lambda n: lambda h: (c := h.client(n)) and c.reconnect(), numbers),
    st.builds(
        lambda n, m: lambda h: (c := h.client(n)) and c.visit_another_worker(m),
        numbers,
        st.integers(0, 9),
    ),
    st.builds(
        lambda n: lambda h: (c := h.client(n)) and setattr(c.outlet, "stuck", True),
        numbers,
    ),
    st.builds(lambda n: lambda h: (c := h.client(n)) and c.outlet.release(), numbers),
)
reader_does = st.one_of(
    st.builds(lambda c: lambda h: h.publish(c), st.text(CHANNELS, min_size=1)),
    st.builds(
        lambda c: lambda h: (h.publish(c), h.tail(10)), st.text(CHANNELS, min_size=1)
    ),
    st.builds(lambda m: lambda h: h.tail(m), st.integers(1, 5)),
    st.builds(lambda m: lambda h: h.read_tail(m), st.integers(1, 5)),
    st.just(lambda h: h.advance()),
    st.just(lambda h: h.ask()),
    st.builds(lambda m: lambda h: h.answer(m), st.integers(1, 3)),
    st.just(lambda h: h.lose()),
    st.just(lambda h: h.find()),
    st.just(lambda h: h.hub.feed.forget()),
)
others_do = st.one_of(clients_do, st.just(lambda h: h.hub.feed.forget()))
in_pause = st.builds(lambda do: lambda h: h.meanwhile.append(lambda: do(h)), others_do)


@given(
    steps=st.lists(
        st.one_of(clients_do, reader_does, in_pause), min_size=10, max_size=80
    ),
    recent=st.sampled_from([0, 500, 100_000]),
)
@settings(max_examples=400)
def test_every_client_gets_the_entries_after_its_cursor(
    steps: list[Callable[[House], object]], recent: int
) -> None:
    house = House(recent)

    for step in steps:
        step(house)
    house.finish()

    for client in house.clients:
        assert client.start is not None
        expected = [
            position
            for position, channel in enumerate(house.journal, start=1)
            if channel == client.channel and position > client.start
        ]
        assert client.positions == expected


@given(text=st.text())
def test_cursor_is_read_back_or_refused(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except BadCursor as error:
        assert len(str(error)) < 700
    else:
        assert str(cursor) == text


@given(
    epoch=st.text("0123456789abcdef", min_size=1, max_size=32),
    position=st.integers(0, 2**63 - 1),
)
def test_cursor_that_was_given_is_understood(epoch: str, position: int) -> None:
    cursor = Cursor(epoch, position)

    assert parse_cursor(str(cursor)) == cursor
