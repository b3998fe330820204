"""Who a client is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, as the policy said.

    Attributes:
        subject: whose it is, for example a user's id.
        expires_at: Unix seconds; None: does not expire.
        claims: whatever the policy wants to know again later.
    """

    subject: str
    expires_at: float | None = None
    claims: object = None
