"""Signed tokens: any text that a client calls one.

Law: `TokenInvalid`, `TokenExpired`, or the identity of a token that was signed
here, as a verifier of a few lines agrees.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.hooks.signed_token import SignedToken
from bridge.values.errors import ClientError, TokenExpired, TokenInvalid
from bridge.values.identity import Identity
from fuzz.inputs import mutate, some_text
from fuzz.run import Target

__all__ = ["target"]

SECRETS = {"one": b"1" * 32, "two": b"2" * 40}

_ALGORITHMS = ("HS256", "HS256", "HS512", "RS256", "none", "None", "", "ES256", 5, None)
_KIDS = ("one", "one", "two", "rsa", "three", "", "../one", 1, None, ["one"])
_SUBJECTS = ("anna", "anna", "", 1, None, ["anna"], "é" * 300, "a\nb")
_CHANNELS: tuple[object, ...] = (
    ["inbox_*"],
    ["inbox_*"],
    [],
    ["*"],
    "inbox_*",
    None,
    [1],
    ["a"] * 101,
)
_ODD: tuple[object, ...] = (
    True,
    -1,
    0,
    1.5,
    "soon",
    None,
    [],
    {},
    10**18,
    1e300,
    10**400,
)
_SPARE = (".", "..", "=", "==", "-", "_", "+", "/", " ", "e30", "bnVsbA", "W10", "é")


def target() -> Target[str]:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    policy = _policy(public.decode())

    def make(random: Random) -> str:
        return _token(random, public)

    def run(token: str) -> tuple[Identity | ClientError, bool]:
        try:
            identity = policy.authenticate(token)
        except (TokenInvalid, TokenExpired) as error:
            return error, False
        return identity, policy.may_subscribe(identity, "inbox_7")

    return Target(make, run, _judge)


def _policy(public: str) -> SignedToken:
    keys = [
        {"kid": kid, "alg": "HS256", "key": secret.decode()}
        for kid, secret in SECRETS.items()
    ]
    keys.append({"kid": "rsa", "alg": "RS256", "key": public})
    name = "BRIDGE_TOKEN_KEYS_FILE"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.json")
        path.write_text(json.dumps(keys))
        os.environ[name] = str(path)
        try:
            return SignedToken()
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


def _token(random: Random, public: bytes) -> str:
    """Make a token: good, wrongly signed, signed nonsense, or nonsense."""
    if random.random() < 0.1:
        return some_text(random, 200)
    now = int(time.time())
    header: dict[str, Any] = {"typ": "JWT", "alg": "HS256", "kid": "one"}
    if random.random() < 0.4:
        header["alg"] = random.choice(_ALGORITHMS)
    if random.random() < 0.4:
        header["kid"] = random.choice(_KIDS)
    claims: dict[str, Any] = {
        "sub": random.choice(_SUBJECTS),
        "channels": random.choice(_CHANNELS),
        "exp": now + random.choice((1000, 1000, 1000, 0, -1000)),
    }
    for name in random.choices(("exp", "nbf", "iat", "aud", "iss", "crit", "x"), k=2):
        if random.random() < 0.15:
            claims[name] = random.choice((*_ODD, now + 1000))
    if random.random() < 0.05:
        claims.pop(random.choice(tuple(claims)))
    bodies = [json.dumps(header), json.dumps(claims)]
    if random.random() < 0.1:
        at = random.randrange(2)
        bodies[at] = mutate(
            random, bodies[at], ("{", "}", "[" * 3000, "NaN", '"', "\\")
        )
    signed = ".".join(_base64(body.encode(errors="replace")) for body in bodies)
    # The public key as a secret: the oldest trick.
    secret = random.choice((*SECRETS.values(), SECRETS["one"], public, b""))
    token = f"{signed}.{_base64(_sign(secret, signed))}"
    return mutate(random, token, _SPARE) if random.random() < 0.3 else token


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(secret: bytes, signed: str) -> bytes:
    return hmac.digest(secret, signed.encode(errors="replace"), hashlib.sha256)


def _judge(token: str, outcome: tuple[Identity | ClientError, bool]) -> str:
    found, allowed = outcome
    if isinstance(found, ClientError):
        text = str(found)
        assert len(text) < 200, f"a text of {len(text)} characters"
        return found.code
    signed, _, signature = token.rpartition(".")
    header = json.loads(_bytes(signed.partition(".")[0]))
    claims = json.loads(_bytes(signed.partition(".")[2]))
    # No token here was signed with the private key of the third one.
    secret = SECRETS[header["kid"]]
    assert header["alg"] == "HS256"
    assert hmac.compare_digest(_bytes(signature), _sign(secret, signed))
    assert found.subject == claims["sub"] and claims["exp"] > time.time() - 5
    assert found.expires_at == claims["exp"]
    patterns = claims.get("channels", [])
    assert allowed == any(pattern in ("inbox_*", "*") for pattern in patterns)
    return "identity"


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
