"""The text that an API key signs: two requests that differ in anything have different texts."""

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.auth import signing

line = st.text(st.characters(max_codepoint=255, exclude_characters="\n"), max_size=20)
FIELDS = ("timestamp", "window", "nonce", "method", "path", "query", "body_sha256")
requests = st.fixed_dictionaries(dict.fromkeys(FIELDS, line))


def test_the_documented_example() -> None:
    body = b'{"symbol":"BTC-USD"}'
    text = signing.canonical(
        timestamp="1700000000000",
        window="",
        nonce="n1",
        method="POST",
        path="/api/orders",
        query="dry=1",
        body_sha256=hashlib.sha256(body).hexdigest(),
    )
    head = b"TRADESTACK-HMAC-SHA256\n1700000000000\n\nn1\nPOST\n/api/orders\ndry=1\n"
    assert text == head + hashlib.sha256(body).hexdigest().encode()
    assert signing.is_signed("secret", text, signing.sign("secret", text))


@given(requests, requests)
def test_different_requests_have_different_texts(one: dict[str, str], other: dict[str, str]) -> None:
    assume(one != other)
    assert signing.canonical(**one) != signing.canonical(**other)


@given(requests, st.sampled_from(FIELDS), line)
def test_any_change_breaks_the_signature(request: dict[str, str], field: str, value: str) -> None:
    assume(request[field] != value)
    signature = signing.sign("secret", signing.canonical(**request))
    assert not signing.is_signed("secret", signing.canonical(**{**request, field: value}), signature)
    assert not signing.is_signed("another", signing.canonical(**request), signature)


@given(requests, st.sampled_from(FIELDS), line, line)
def test_a_line_end_never_moves_a_field(request: dict[str, str], field: str, one: str, two: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        signing.canonical(**{**request, field: f"{one}\n{two}"})


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_another_body_has_another_signature(one: bytes, other: bytes) -> None:
    assume(one != other)

    def signed(body: bytes) -> str:
        made = signing.headers("k", "s", timestamp_ms=1, method="POST", path="/", body=body)
        return made["x-api-signature"]

    assert signed(one) != signed(other)


@given(line)
def test_no_made_up_signature_fits(signature: str) -> None:
    text = b"text"
    assert signing.is_signed("secret", text, signature) == (signature == signing.sign("secret", text))
