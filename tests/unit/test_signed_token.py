"""The policy for signed tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.access import Identity, Request, TokenExpired, TokenInvalid
from bridge.hooks.signed_token import SignedToken

SECRET = "a secret of the tests, 32 bytes and more"
OTHER = "another secret of the tests, long enough"

Make = Callable[..., SignedToken]


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def public_pem(rsa_key: rsa.RSAPrivateKey) -> str:
    return (
        rsa_key.public_key()
        .public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
        .decode()
    )


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a policy of a list of keys, by default one secret."""

    def make(keys: Any = None, **settings: str) -> SignedToken:
        if keys is None:
            keys = [{"kid": "one", "alg": "HS256", "key": SECRET}]
        path = tmp_path / "keys.json"
        path.write_text(keys if isinstance(keys, str) else json.dumps(keys))
        monkeypatch.setenv("BRIDGE_TOKEN_KEYS_FILE", str(path))
        for name, value in settings.items():
            monkeypatch.setenv(f"BRIDGE_TOKEN_{name.upper()}", value)
        return SignedToken()

    return make


def token(
    key: Any = SECRET, alg: str = "HS256", kid: str | None = "one", **claims: Any
):
    body = {"sub": "anna", "exp": int(time.time()) + 3600, "channels": ["inbox_*"]}
    body = {k: v for k, v in {**body, **claims}.items() if v is not None}
    return jwt.encode(body, key, alg, headers={"kid": kid} if kid else None)


def request(
    headers: dict[str, str] | None = None, cookies: dict[str, str] | None = None
) -> Request:
    return Request("/ws", headers or {}, cookies or {}, {}, "")


def test_good_token_says_who_which_channels_and_until_when(policy: Make) -> None:
    one = policy()
    expires_at = int(time.time()) + 60

    identity = one.authenticate(token(exp=expires_at))

    assert (identity.subject, identity.expires_at) == ("anna", float(expires_at))
    assert one.may_subscribe(identity, "inbox_anna") is True
    assert one.may_subscribe(identity, "outbox") is False
    assert one.may_subscribe(None, "inbox_anna") is False
    assert one.may_subscribe(Identity("x", None, ["*"]), "inbox_anna") is False


def test_rsa_token_is_believed_and_keys_live_side_by_side(
    policy: Make, rsa_key: rsa.RSAPrivateKey, public_pem: str
) -> None:
    both = policy(
        [
            {"kid": "old", "alg": "HS256", "key": SECRET},
            {"kid": "new", "alg": "RS256", "key": public_pem},
        ]
    )

    assert both.authenticate(token(rsa_key, "RS256", "new")).subject == "anna"
    assert both.authenticate(token(SECRET, "HS256", "old")).subject == "anna"


def test_token_does_not_choose_its_algorithm(
    policy: Make, rsa_key: rsa.RSAPrivateKey, public_pem: str
) -> None:
    # The classic: the public key, known to all, used as an HMAC secret.
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = part(json.dumps({"alg": "HS256", "kid": "new"}).encode())
    body = part(json.dumps({"sub": "evil", "exp": 4102444800}).encode())
    signature = hmac.new(
        public_pem.encode(), f"{head}.{body}".encode(), hashlib.sha256
    ).digest()
    forged = f"{head}.{body}.{part(signature)}"
    one = policy([{"kid": "new", "alg": "RS256", "key": public_pem}])

    with pytest.raises(TokenInvalid):
        one.authenticate(forged)
    with pytest.raises(TokenInvalid):
        one.authenticate(jwt.encode({"sub": "evil", "exp": 4102444800}, None, "none"))


def test_expired_token_is_told_apart(policy: Make) -> None:
    with pytest.raises(TokenExpired):
        policy().authenticate(token(exp=int(time.time()) - 1))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "no token",
        "a.b.c",
        "é.ü.ö",
        "x" * 9000,
        token(OTHER),
        token(kid="unknown"),
        token(exp=None),
        token(sub=None),
        token(sub=""),
        token(sub=7),
        token(exp=10**400),
        token(channels="inbox_*"),
        token(channels=[1]),
        token(channels=["a"] * 101),
        token(nbf=int(time.time()) + 7200),
        token(aud="somebody else"),
        token() + "x",
    ],
)
def test_bad_token_is_invalid_and_not_quoted(policy: Make, bad: str) -> None:
    with pytest.raises(TokenInvalid) as refused:
        policy().authenticate(bad)

    assert len(bad) < 10 or bad not in str(refused.value)


def test_token_without_key_id_needs_a_single_key(policy: Make) -> None:
    keys = [
        {"kid": "one", "alg": "HS256", "key": SECRET},
        {"kid": "two", "alg": "HS256", "key": OTHER},
    ]

    assert policy().authenticate(token(kid=None)).subject == "anna"
    with pytest.raises(TokenInvalid):
        policy(keys).authenticate(token(kid=None))


def test_audience_must_be_the_one_that_is_set(policy: Make) -> None:
    one = policy(audience="bridge")

    assert one.authenticate(token(aud="bridge")).subject == "anna"
    for other in ("site", None):
        with pytest.raises(TokenInvalid):
            one.authenticate(token(aud=other))


def test_token_is_found_in_header_and_cookie(policy: Make) -> None:
    one = policy(cookie="bridge_token")
    good = token()

    for found in (
        request({"authorization": f"Bearer {good}"}),
        request({"authorization": f"bearer  {good}"}),
        request(cookies={"bridge_token": good}),
        request({"authorization": "Basic eA=="}, {"bridge_token": good}),
    ):
        identity = one.identify(found)
        assert identity is not None
        assert identity.subject == "anna"
    assert one.identify(request()) is None
    assert one.identify(request(cookies={"other": good})) is None
    with pytest.raises(TokenInvalid):
        one.identify(request({"authorization": "Bearer nonsense"}))


def test_cookie_is_not_looked_at_unless_it_is_named(policy: Make) -> None:
    assert policy().identify(request(cookies={"": token(), "x": token()})) is None


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("no json", "is not JSON"),
        ({}, "is not a list of keys"),
        ([], "is not a list of keys"),
        ([{"kid": "a"}], "'kid', 'alg' and 'key' must be strings"),
        ([{"kid": "a", "alg": "none", "key": SECRET}], "'alg' must be one of"),
        ([{"kid": "a", "alg": "HS256", "key": "short"}], "at least 32 bytes"),
        ([{"kid": "a", "alg": "RS256", "key": SECRET}], "no public key in PEM form"),
        ([{"kid": "a", "alg": "HS256", "key": SECRET}] * 2, "occurs twice"),
    ],
)
def test_keys_file_that_cannot_be_used_says_why(
    policy: Make, keys: Any, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        policy(keys)

    assert SECRET not in str(refused.value)


def test_keys_file_must_be_named_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRIDGE_TOKEN_KEYS_FILE", raising=False)
    with pytest.raises(ValueError, match="BRIDGE_TOKEN_KEYS_FILE is not set"):
        SignedToken()

    monkeypatch.setenv("BRIDGE_TOKEN_KEYS_FILE", "/nowhere/keys.json")
    with pytest.raises(ValueError, match="No such file"):
        SignedToken()
