"""Those who are behind: where each stands, and whose turn it is.

Invariant: a subscription is filed under its `position`, which must not change
while it is in here.
"""

from __future__ import annotations

from bridge.core.subscription import Subscription

__all__ = ["Behind"]


class Behind:
    """Subscriptions by channel and position, the longest waiting first."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int], dict[Subscription, None]] = {}

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def first(self) -> tuple[str, int]:
        """The channel and position where somebody has waited for longest."""
        return next(iter(self._groups))

    def at(self, channel: str, position: int) -> tuple[Subscription, ...]:
        """Return who stands there."""
        return tuple(self._groups.get((channel, position), ()))

    def add(self, subscription: Subscription) -> None:
        key = (subscription.channel, subscription.position)
        self._groups.setdefault(key, {})[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Take one out, if it is in here."""
        key = (subscription.channel, subscription.position)
        group = self._groups.get(key, {})
        group.pop(subscription, None)
        if not group:
            self._groups.pop(key, None)
