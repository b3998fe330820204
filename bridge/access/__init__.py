"""Who may connect, and to what. What a site's policy imports is here.

A policy answers with an `Identity`, or raises one of these errors about the
client; any other one means that nobody can say now (`Unavailable`).
"""

from bridge.access.policy import Policy, Request, TokenPolicy
from bridge.values.errors import (
    Forbidden,
    NotAuthenticated,
    TokenExpired,
    TokenInvalid,
    Unavailable,
)
from bridge.values.identity import Identity

__all__ = [
    "Forbidden",
    "Identity",
    "NotAuthenticated",
    "Policy",
    "Request",
    "TokenExpired",
    "TokenInvalid",
    "TokenPolicy",
    "Unavailable",
]
