"""A header for one hop: the transport sends it, and no copy, item, repr or later request has it."""

from __future__ import annotations

import copy
import pickle

import httpx
import pytest

from x402_audio.payment.onehop import OneHopHeaders, attach, detach
from x402_audio.secret import Secret

VALUE = "eyJ4NDAyVmVyc2lvbiI6Mn0"


@pytest.fixture
def request_() -> httpx.Request:
    request = httpx.Request("POST", "https://seller.example/a", headers={"accept": "audio/*"}, content=b"{}")
    attach(request, {"PAYMENT-SIGNATURE": Secret(VALUE)})
    return request


def test_only_raw_gives_the_secret_out(request_: httpx.Request) -> None:
    headers = request_.headers
    assert (b"PAYMENT-SIGNATURE", VALUE.encode()) in headers.raw
    assert "payment-signature" not in headers
    assert headers.get("payment-signature") is None
    assert list(headers) == list(headers.keys()) == ["host", "accept", "content-length"]
    shown = (
        repr(headers),
        str(headers),
        repr(headers.items()),
        repr(headers.multi_items()),
        repr(request_),
        repr(vars(headers)),
    )
    assert not [text for text in shown if VALUE in text]


def test_a_copy_goes_without_it(request_: httpx.Request) -> None:
    for other in (httpx.Headers(request_.headers), request_.headers.copy()):
        assert VALUE.encode() not in dict(other.raw).values()


def test_the_transport_sends_it_and_a_followed_redirect_does_not(request_: httpx.Request) -> None:
    seen: list[dict[bytes, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append({name.lower(): value for name, value in request.headers.raw})
        return (
            httpx.Response(307, headers={"location": "https://seller.example/b"})
            if len(seen) == 1
            else httpx.Response(200)
        )

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as http:
        response = http.send(request_)
    assert [VALUE.encode() in each.values() for each in seen] == [True, False]
    assert seen[1][b"accept"] == b"audio/*"
    assert VALUE.encode() not in dict(response.request.headers.raw).values()


def test_a_second_secret_replaces_the_first(request_: httpx.Request) -> None:
    attach(request_, {"X-PAYMENT": Secret("other")})
    assert [value for name, value in request_.headers.raw if name.isupper()] == [b"other"]


def test_taking_it_off_says_whether_there_was_one(request_: httpx.Request) -> None:
    assert detach(request_)
    assert not detach(request_)
    assert type(request_.headers) is httpx.Headers
    assert VALUE.encode() not in dict(request_.headers.raw).values()
    assert request_.headers["accept"] == "audio/*"


def test_it_is_never_pickled_or_deeply_copied(request_: httpx.Request) -> None:
    assert isinstance(request_.headers, OneHopHeaders)
    for act in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            act(request_.headers)


def test_a_header_that_is_not_ascii_never_leaves() -> None:
    request = httpx.Request("GET", "https://seller.example/")
    attach(request, {"X-PAYMENT": Secret("caf\u00e9")})
    with pytest.raises(UnicodeEncodeError):
        _ = request.headers.raw
