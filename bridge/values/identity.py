"""Who a client is, and who decides what it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Access", "Identity"]


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


class Access(Protocol):
    """Decides who a client is and what it may have. May block."""

    @property
    def takes_tokens(self) -> bool:
        """Whether `authenticate` can succeed."""

    def authenticate(self, token: str) -> Identity:
        """Tell whose token it is.

        Raises:
            TokenInvalid, TokenExpired: it is no good.
            Unavailable: nobody can say now.
        """

    def is_public(self, channel: str) -> bool:
        """Tell whether everybody may have the channel. Does not block."""

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        """Tell whether a client may have the channel.

        Raises:
            Unavailable: nobody can say now.
        """
