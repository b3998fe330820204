"""Which channel goes to which listener.

Each channel has a listener of its own while the budget lasts, so that one busy
channel's fan-out does not hold up another's; past the budget channels share
the listener with the fewest. 10,000 channels still cost a handful of sessions.

The first listener is always there: it keeps an eye on the database even when
nobody is subscribed. A channel never moves while it is listened to.
"""

from __future__ import annotations

from bridge.core.subscription import State
from bridge.postgres.listener import Control, Listener, ListenerOptions, Sink
from bridge.values.errors import Unavailable

__all__ = ["Pool"]


class Pool:
    """The listeners of one worker.

    Args:
        max_listeners: sessions that may listen.
        max_channels: channels over all of them.
        control: channels of our own, on the first listener.
    """

    def __init__(
        self,
        sink: Sink,
        options: ListenerOptions,
        *,
        max_listeners: int,
        max_channels: int,
        control: Control | None = None,
    ) -> None:
        self._control = control
        self._sink = sink
        self._options = options
        self._max_listeners = max_listeners
        self._max_channels = max_channels
        self._listeners: list[Listener] = []
        self._owners: dict[str, Listener] = {}

    def start(self) -> None:
        """Start the first listener."""
        self._add_listener(self._control)

    def stop(self, timeout: float) -> None:
        """Close every session, waiting at most `timeout` seconds for each."""
        for listener in self._listeners:
            listener.stop()
        for listener in self._listeners:
            listener.join(timeout)

    @property
    def live(self) -> bool:
        """Whether the first listener has its session, and no other lost its own."""
        return self._listeners[0].state is State.LIVE and all(
            listener.state is not State.AWAY for listener in self._listeners
        )

    @property
    def queue_usage(self) -> float:
        """How full the cluster's queue of notifications is, 0 to 1."""
        return max(listener.queue_usage for listener in self._listeners)

    @property
    def away(self) -> int:
        """How many listeners have lost their session."""
        return sum(one.state is State.AWAY for one in self._listeners)

    @property
    def listeners(self) -> int:
        """How many sessions listen, or should."""
        return len(self._listeners)

    @property
    def channels(self) -> int:
        """How many channels are listened to, or should be."""
        return len(self._owners)

    def describe(self) -> list[dict[str, object]]:
        """Each listener's state, for /readyz."""
        return [listener.describe() for listener in self._listeners]

    def want(self, channel: str) -> State:
        """Listen to a channel; returns how it stands now.

        Raises:
            Unavailable: this worker listens to as many channels as it may.
        """
        owner = self._owners.get(channel)
        if owner is None:
            if len(self._owners) >= self._max_channels:
                raise Unavailable(
                    "this server listens to as many channels as it may",
                    retry_delay=self._options.unlisten_delay,
                )
            owner = self._owners[channel] = self._choose()
        return owner.add(channel)

    def unwant(self, channel: str) -> None:
        """Nobody is subscribed to the channel any more."""
        self._owners[channel].release(channel)

    def _choose(self) -> Listener:
        least = min(self._listeners, key=lambda listener: listener.load)
        if least.load and len(self._listeners) < self._max_listeners:
            return self._add_listener()
        return least

    def _add_listener(self, control: Control | None = None) -> Listener:
        listener = Listener(self._sink, self._options, self._given_up, control)
        self._listeners.append(listener)
        listener.start()
        return listener

    def _given_up(self, listener: Listener, channels: list[str]) -> None:
        for channel in channels:
            self._owners.pop(channel, None)
        if not listener.load and listener is not self._listeners[0]:
            self._listeners.remove(listener)
            listener.stop()
