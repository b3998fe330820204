"""What a page keeps: its cursors, exactly as the shipped client does."""

from __future__ import annotations

from typing import Any

__all__ = ["Memory"]


class Memory:
    """Pure; told each message, and when a connection begins.

    Attributes:
        cursors: of each durable channel, what it resumes from.
        known: channels that it had at some time.
        live: those that are subscribed on this connection, and whether durable.
        waiting: requests of this connection without an answer: id and channel.
        numbers: of each channel the last event's number on this connection.
        refused: channels of which the last request of this connection was
            answered with an error.
    """

    def __init__(self) -> None:
        self.cursors: dict[str, str] = {}
        self.known: set[str] = set()
        self.connect()

    def connect(self) -> None:
        """A new connection has nothing yet."""
        self.live: dict[str, bool] = {}
        self.waiting: dict[int, str | None] = {}
        self.numbers: dict[str, int] = {}
        self.refused: set[str] = set()

    def hear(self, message: dict[str, Any]) -> None:
        channel = str(message.get("channel"))
        asked_for = self.waiting.pop(message.get("id", -1), None)
        match message["type"]:
            case "notification" if channel in self.live:
                self._keep(message)
                if isinstance(message.get("data"), dict):
                    self.numbers[channel] = message["data"].get("n", -1)
            case "subscribed":
                self.live[channel] = message["durable"]
                self.known.add(channel)
                self.refused.discard(channel)
                # Resumed, it has had nothing yet of what it is promised.
                if not message["resumed"]:
                    self._keep(message)
            case "gap":
                self._keep(message)
            case "unsubscribed":
                self.live.pop(channel, None)
                # Its last word: what was asked before is not answered any more.
                for earlier, about in list(self.waiting.items()):
                    if about == channel and earlier < message.get("id", -1):
                        del self.waiting[earlier]
            case "heartbeat" if "cursor" in message:
                for each, durable in self.live.items():
                    if durable:
                        self.cursors[each] = message["cursor"]
            case "error" if asked_for is not None:
                self.refused.add(asked_for)

    def _keep(self, message: dict[str, Any]) -> None:
        if "cursor" in message:
            self.cursors[message["channel"]] = message["cursor"]
