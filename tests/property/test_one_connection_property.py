"""Several channels on one connection that is read by fits: once, in order, or told.

The real conversation, hub, feed and outlet; what is simulated is the kernel's
buffer and the journal. Whoever writes pauses as often as it may, and anything
may happen meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bridge.clients import outlet as outlet_module
from bridge.core import entries as entries_module
from bridge.core import fan_out as fan_out_module
from bridge.core.entries import Entry, Need, Page
from bridge.core.fan_out import FanOut
from bridge.core.hub import Hub
from bridge.core.service import Service
from bridge.core.subscription import State
from bridge.values.channels import Patterns
from bridge.values.cursor import Cursor
from bridge.values.limits import Rate
from bridge.values.message import Batch
from property.simulated_browser import PLAIN, SimulatedBrowser
from property.simulated_socket import simulated_loop

DURABLE = ("a", "b", "c")
BROWSERS = 2
MAX_PAGE_ENTRIES = 3


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries_module, "MAX_PAGE_ENTRIES", MAX_PAGE_ENTRIES)
        patch.setattr(fan_out_module, "_RUN_LENGTH", 1)
        patch.setattr(outlet_module, "gevent", simulated_loop())
        yield


class EverybodyMay:
    """Access to everything."""

    takes_tokens = False

    def is_public(self, channel: str) -> bool:
        return True

    def may_subscribe(self, identity: object, channel: str) -> bool:
        return True


Deed = tuple[str, tuple[object, ...]]
"""The name of a method of `OneWorker`, without its underscore, and arguments."""

numbers = st.integers(0, BROWSERS - 1)
channels = st.sampled_from((*DURABLE, PLAIN))


def _deed(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Deed]:
    return st.tuples(st.just(name), st.tuples(*arguments))


def _weighted(*choices: tuple[int, st.SearchStrategy[Deed]]) -> st.SearchStrategy[Deed]:
    """Choose in proportion to the weights."""
    expanded = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(range(len(expanded))).flatmap(lambda index: expanded[index])


client_deeds = _weighted(
    (8, _deed("read", numbers, st.sampled_from([1, 100, 300, 1000, 10_000]))),
    (3, _deed("publish_plain", st.integers(1, 4))),
    (3, _deed("heartbeat", numbers)),
    (1, _deed("subscribe", numbers, channels)),
    (1, _deed("resubscribe", numbers, channels)),
    (1, _deed("unsubscribe", numbers, channels)),
    (1, _deed("reconnect", numbers)),
    (1, _deed("forget")),
)

texts = st.text("".join(DURABLE), min_size=1, max_size=15)

reader_deeds = _weighted(
    (6, _deed("events", texts)),
    (2, _deed("publish", texts)),
    (2, _deed("read_the_tail", st.integers(1, 8))),
    (2, _deed("hand_on")),
    (2, _deed("ask")),
    (2, _deed("answer", st.integers(1, MAX_PAGE_ENTRIES))),
    (8, _deed("bring_forward")),
    (1, _deed("lose")),
    (2, _deed("find")),
    (1, _deed("retention_passes", st.integers(0, 8))),
    (1, _deed("another_epoch", st.sampled_from(["installed", "promoted", "restored"]))),
)


class OneWorker(RuleBasedStateMachine):
    """A worker's hub, a journal with its reader, and three browsers."""

    @initialize(
        recent=st.sampled_from([0, 1000, 100_000]),
        buffer_bytes=st.sampled_from([100, 400, 1500]),
        backlog_bytes=st.sampled_from([1000, 3000, 10_000]),
    )
    def begin(self, recent: int, buffer_bytes: int, backlog_bytes: int) -> None:
        self.journal: dict[tuple[str, int], str] = {}  # the channel of each position
        self.epochs = 1
        self.epoch, self.newest, self.floor = "e1", 0, 0
        self.plain = 0
        self.need: Need | None = None
        #: What was read of the tail and not handed on yet; of which epoch.
        self.tail: tuple[str, list[Entry]] = ("", [])
        #: What happens at the next pauses.
        self.meanwhile: list[Deed] = []
        self.publishing = False
        self._now = 0.0
        self.hub = Hub(
            want=lambda channel: State.LIVE,
            unwant=lambda channel: None,
            fan_out=FanOut(clock=self._clock, pause=self._pause),
            max_recent_bytes=recent,
        )
        self.hub.feed.opened(self.epoch, 0, 0)
        self.hub.know(Patterns(DURABLE))
        service = Service(
            hub=self.hub,
            access=EverybodyMay(),  # type: ignore[arg-type]
            heartbeat_interval=25.0,
            max_channels=10,
            subscribe_rate=Rate(0, 0),
            max_errors=0,
            authenticate_timeout=10.0,
            clock=lambda: 0.0,
        )
        self.browsers = [
            SimulatedBrowser(self, service, buffer_bytes, backlog_bytes)
            for _ in range(BROWSERS)
        ]
        for channel in (*DURABLE, PLAIN):
            for number in range(BROWSERS):
                self._subscribe(number, channel)

    def between(self, channel: str, after: Cursor, upto: Cursor) -> list[int]:
        return [
            position
            for position in range(after.position + 1, upto.position + 1)
            if self.journal.get((after.epoch, position)) == channel
        ]

    def _clock(self) -> float:
        self._now += 1  # time for a pause, always
        return self._now

    def _pause(self) -> None:
        if self.meanwhile:
            self._do([self.meanwhile.pop(0)])

    def _do(self, deeds: list[Deed]) -> None:
        for name, arguments in deeds:
            getattr(self, f"_{name}")(*arguments)

    @rule(
        clients=st.lists(client_deeds, min_size=1, max_size=6),
        reader=st.lists(reader_deeds, max_size=4),
    )
    def clients_and_reader(self, clients: list[Deed], reader: list[Deed]) -> None:
        self._do(clients + reader)

    @rule(
        meanwhile=st.lists(client_deeds, min_size=1, max_size=8),
        reader=st.lists(reader_deeds, min_size=1, max_size=4),
    )
    def clients_in_pauses(self, meanwhile: list[Deed], reader: list[Deed]) -> None:
        self.meanwhile += meanwhile
        self._do(reader)

    # What clients and publishers of plain channels do, also in a pause.

    def _subscribe(self, number: int, channel: str) -> None:
        self.browsers[number].subscribe(channel)

    def _unsubscribe(self, number: int, channel: str) -> None:
        self.browsers[number].unsubscribe(channel)

    def _resubscribe(self, number: int, channel: str) -> None:
        self._unsubscribe(number, channel)
        self._subscribe(number, channel)

    def _reconnect(self, number: int) -> None:
        self.browsers[number].reconnect()

    def _heartbeat(self, number: int) -> None:
        self.browsers[number].heartbeat()

    def _read(self, number: int, size: int) -> None:
        self.browsers[number].read(size)

    def _publish_plain(self, count: int) -> None:
        if self.publishing:
            return  # one listener hands on what comes, one batch after another
        self.publishing = True
        first, self.plain = self.plain + 1, self.plain + count
        payloads = tuple(map(str, range(first, self.plain + 1)))
        self.hub.publish(Batch(PLAIN, payloads, pid=1, complete_until=1.0))
        self.publishing = False

    def _forget(self) -> None:
        self.hub.feed.forget()

    # What happens to the journal.

    def _publish(self, text: str) -> None:
        for channel in text:
            self.newest += 1
            self.journal[self.epoch, self.newest] = channel

    def _retention_passes(self, kept: int) -> None:
        self.floor = max(self.floor, self.newest - kept)

    def _another_epoch(self, kind: str) -> None:
        self.epochs += 1
        self.epoch = f"e{self.epochs}"
        back = {"installed": self.newest, "promoted": 0, "restored": self.newest // 2}
        self.newest -= back[kind]
        self.floor = self.newest

    # What the reader of the journal does, one after another.

    def _read_the_tail(self, most: int) -> None:
        feed = self.hub.feed
        after = feed.position
        if feed.state is not State.LIVE:
            return
        if self.epoch != feed.epoch:
            feed.reset(self.epoch, self.floor, self.newest, "epoch_changed")
        elif self.floor > after:
            feed.reset(self.epoch, self.floor, self.newest, "expired")
        else:
            feed.expire(self.floor)
            rows = range(after + 1, min(after + most, self.newest) + 1)
            self.tail = self.epoch, [self._entry(position) for position in rows]

    def _entry(self, position: int) -> Entry:
        channel = self.journal[self.epoch, position]
        wanted = self.hub.wants(channel)
        return Entry(position, channel, self._payload(position) if wanted else None)

    def _payload(self, position: int) -> str:
        return f"{self.journal[self.epoch, position]} {Cursor(self.epoch, position)}"

    def _hand_on(self) -> None:
        """What was read of the tail; clients may have come since."""
        feed, (epoch, entries) = self.hub.feed, self.tail
        self.tail = "", []
        if entries and epoch == feed.epoch and feed.state is State.LIVE:
            if entries[0].position == feed.position + 1:
                feed.advance(entries, entries[-1].position, self.hub.publish_to_plain)

    def _events(self, text: str) -> None:
        self._publish(text)
        self._follow(len(text))

    def _follow(self, most: int) -> None:
        self._read_the_tail(most)
        self._hand_on()

    def _ask(self) -> None:
        self.need = self.hub.feed.work()

    def _answer(self, most: int) -> None:
        """The page that was asked for comes; others had their turn meanwhile."""
        need, self.need = self.need, None
        if need is not None:
            self.hub.feed.replayed(need, self._page(need, most))

    def _page(self, need: Need, most: int) -> Page:
        begin = max(need.after, self.floor)
        found = [
            (position, self._payload(position))
            for position in range(begin + 1, min(need.upto, self.newest) + 1)
            if self.journal[self.epoch, position] == need.channel
        ]
        upto = need.upto if len(found) <= most else found[most - 1][0]
        return Page(found[:most], upto, self.epoch, self.floor, self.newest)

    def _bring_forward(self) -> None:
        self._ask()
        self._answer(MAX_PAGE_ENTRIES)

    def _lose(self) -> None:
        self.hub.journal_lost()

    def _find(self) -> None:
        self.need, self.tail = None, ("", [])
        self.hub.feed.opened(self.epoch, self.floor, self.newest)

    # The end.

    def teardown(self) -> None:
        if not hasattr(self, "hub"):
            return
        self.meanwhile.clear()
        self._find()
        for _ in range(5000):
            self._follow(1000)
            self._bring_forward()
            for browser in self.browsers:
                if browser.gone:
                    browser.reconnect()
                browser.read(100_000)
            if self._at_rest():
                break
        else:
            raise AssertionError("it does not come to rest")
        for browser in self.browsers:
            browser.heartbeat()
            browser.read(100_000)
            browser.check_end(Cursor(self.epoch, self.newest))
            browser.reconnect()
            browser._conversation.end()
        assert self.hub.subscriptions == self.hub.feed.subscriptions == 0

    def _at_rest(self) -> bool:
        feed = self.hub.feed
        return (
            feed.position == self.newest
            and self.need is None
            and not feed.behind
            and not any(one.waiting or one.gone for one in self.browsers)
        )


OneWorker.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None
)


class TestSeveralChannelsOnOneConnection(OneWorker.TestCase):  # type: ignore[misc]
    """Whatever happens: once, in order, or told."""
