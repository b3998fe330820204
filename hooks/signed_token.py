"""A policy for signed tokens (JWT): who, which channels, until when.

    BRIDGE_ACCESS=bridge.hooks.signed_token.SignedToken
    BRIDGE_TOKEN_KEYS_FILE=/etc/pgbridge/keys.json

A token says `sub`, `exp` and `channels`, a list of channel patterns. It comes
by cookie (`BRIDGE_TOKEN_COOKIE`), as `Authorization: Bearer …`, or later with
the message `authenticate`; never in the URL, which every proxy writes down.

The keys file is a list, so that keys can be exchanged without a break::

    [{"kid": "2026-11", "alg": "HS256", "key": "at least 32 bytes of secret"},
     {"kid": "site",    "alg": "RS256", "key": "-----BEGIN PUBLIC KEY-----…"}]

Each key has its one algorithm: a token does not choose.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import jwt
except ImportError as exc:
    raise ImportError(
        "the signed-token policy needs PyJWT: pip install 'pgbridge[token]'"
    ) from exc

from bridge.access import Identity, Request, TokenExpired, TokenInvalid
from bridge.values.channels import Patterns
from bridge.values.settings import Settings

__all__ = ["SignedToken"]

ALGORITHMS = ("HS256", "RS256")
MIN_SECRET_BYTES = 32
"""RFC 7518, 3.2: no shorter than the hash."""

MAX_PATTERNS = 100
MAX_TOKEN_BYTES = 8192


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: str
    key: Any


class SignedToken:
    """Believes tokens that one of the keys has signed.

    Raises:
        ValueError: the keys file cannot be used; says why.
    """

    # Checking a signature takes a fraction of a millisecond and never waits.
    cooperative = True

    def __init__(self) -> None:
        settings, _, _ = Settings.from_environ(os.environ)
        if settings.token_keys_file is None:
            raise ValueError("BRIDGE_TOKEN_KEYS_FILE is not set")
        self._keys = _read_keys(Path(settings.token_keys_file))
        self._audience = settings.token_audience
        self._cookie = settings.token_cookie

    def identify(self, request: Request) -> Identity | None:
        """Look for a token in the handshake.

        Raises:
            TokenInvalid, TokenExpired: there is one, and it is no good.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            token = request.cookies.get(self._cookie, "") if self._cookie else ""
        return self.authenticate(token.strip()) if token else None

    def authenticate(self, token: str) -> Identity:
        """Tell whose token it is.

        Raises:
            TokenInvalid, TokenExpired: it is no good.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenInvalid(f"a token has at most {MAX_TOKEN_BYTES} bytes")
        claims = self._claims(token)
        subject, patterns = claims["sub"], claims.get("channels", [])
        if not isinstance(subject, str) or not subject:
            raise TokenInvalid("'sub' must be a string that is not empty")
        if (
            not isinstance(patterns, list)
            or len(patterns) > MAX_PATTERNS
            or not all(isinstance(pattern, str) for pattern in patterns)
        ):
            raise TokenInvalid(
                f"'channels' must be a list of at most {MAX_PATTERNS} strings"
            )
        try:
            expires_at = float(claims["exp"])
        except OverflowError:
            raise TokenInvalid("'exp' is no date") from None
        return Identity(subject, expires_at, Patterns(patterns))

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        """Tell whether one of the token's patterns covers the channel."""
        return (
            identity is not None
            and isinstance(identity.claims, Patterns)
            and identity.claims.match(channel)
        )

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                options={"require": ["sub", "exp"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the token has expired") from None
        # Whatever else goes wrong with bytes of a stranger's is the token's
        # fault; PyJWT's texts may quote it, so they go nowhere.
        except Exception as exc:
            if isinstance(exc, TokenInvalid):
                raise
            raise TokenInvalid(
                f"the token cannot be verified ({type(exc).__name__})"
            ) from None
        return claims

    def _key(self, kid: object) -> _Key:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if not isinstance(kid, str) or kid not in self._keys:
            raise TokenInvalid("the token's key ('kid') is not known")
        return self._keys[kid]


def _read_keys(path: Path) -> dict[str, _Key]:
    try:
        entries = json.loads(path.read_text())
    except OSError as exc:
        raise ValueError(f"cannot read {str(path)!r}: {exc.strerror}") from exc
    except ValueError:
        raise ValueError(f"{str(path)!r} is not JSON") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{str(path)!r} is not a list of keys")
    keys: dict[str, _Key] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"key {number} of {str(path)!r}"
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), str) for name in ("kid", "alg", "key")
        ):
            raise ValueError(f"{where}: 'kid', 'alg' and 'key' must be strings")
        kid, algorithm = entry["kid"], entry["alg"]
        if algorithm not in ALGORITHMS:
            raise ValueError(f"{where}: 'alg' must be one of {', '.join(ALGORITHMS)}")
        if kid in keys:
            raise ValueError(f"{where}: 'kid' {kid!r} occurs twice")
        keys[kid] = _Key(algorithm, _prepared(algorithm, entry["key"], where))
    return keys


def _prepared(algorithm: str, key: str, where: str) -> Any:
    """Parse a key once; PyJWT would at every token."""
    if algorithm == "HS256":
        if len(key.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"{where}: a secret has at least {MIN_SECRET_BYTES} bytes")
        return key.encode()
    try:
        return jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    except Exception as exc:
        raise ValueError(f"{where}: no public key in PEM form") from exc
