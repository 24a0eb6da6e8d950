"""Signing in at the prepaid seller: one changed character, an old nonce or a foreign name opens nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sandbox.customer import OpenShop, Shop, Wallet, header_of, iso

Change = Callable[[Shop, Wallet], dict[str, str]]


def test_a_fresh_sign_in_reads_the_balance_of_its_own_wallet_only(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet, other = shop.wallet(1), shop.wallet(2)
    answer = shop.balance(wallet)
    assert answer.status_code == 200
    assert answer.json()["data"] == {
        "walletAddress": wallet.address.lower(),
        "balanceUsd": 0,
        "canConsume": False,
        "minimumTopUpUsd": 5,
        "suggestedTopUpUsd": 10,
    }
    foreign = shop.http.get(f"/x402/balance/{other.address}", headers=wallet.sign_in(shop.host))
    assert foreign.status_code == 403
    assert shop.http.get("/x402/balance/0x12", headers=wallet.sign_in(shop.host)).status_code == 400


def test_echoed_fields_are_as_good_as_the_message(open_shop: OpenShop) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    text = wallet.text(shop.host, nonce="abcdef0123456789")
    fields = {
        "domain": shop.host,
        "address": wallet.address,
        "uri": f"http://{shop.host}",
        "version": "1",
        "chainId": "eip155:8453",
        "type": "eip191",
        "statement": "Sign in to Venice AI",
        "nonce": "abcdef0123456789",
        "issuedAt": iso(shop.clock.now()),
        "expirationTime": iso(shop.clock.now() + 240),
        "signature": wallet.sign(text),
    }
    headers = {"X-Sign-In-With-X": header_of(fields)}
    assert shop.http.get(f"/x402/balance/{wallet.address}", headers=headers).status_code == 200


def _header(wallet: Wallet, text: str, **changed: object) -> dict[str, str]:
    payload = {
        "address": wallet.address,
        "message": text,
        "signature": wallet.sign(text),
        "chainId": 8453,
        **changed,
    }
    return {"SIGN-IN-WITH-X": header_of(payload)}


def _flipped(signature: str) -> str:
    return signature[:20] + ("0" if signature[20] != "0" else "1") + signature[21:]


def _changed_text(shop: Shop, wallet: Wallet) -> dict[str, str]:
    text = wallet.text(shop.host)
    return _header(wallet, text.replace("Sign in to", "Sign in at"), signature=wallet.sign(text))


def _changed_signature(shop: Shop, wallet: Wallet) -> dict[str, str]:
    text = wallet.text(shop.host)
    return _header(wallet, text, signature=_flipped(wallet.sign(text)))


def _high_s(shop: Shop, wallet: Wallet) -> dict[str, str]:
    text = wallet.text(shop.host)
    signed = bytes.fromhex(wallet.sign(text)[2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signed[32:64], "big")
    return _header(
        wallet, text, signature="0x" + (signed[:32] + s.to_bytes(32, "big") + bytes([55 - signed[64]])).hex()
    )


REFUSED: list[tuple[str, Change]] = [
    ("INVALID_PAYLOAD", lambda s, w: {"SIGN-IN-WITH-X": "%%%"}),
    ("INVALID_PAYLOAD", lambda s, w: {"SIGN-IN-WITH-X": header_of({"address": w.address})}),
    ("PARSE_ERROR", lambda s, w: _header(w, w.text(s.host) + "\nand more")),
    ("INVALID_MESSAGE", lambda s, w: _header(w, w.text(s.host).replace("Version: 1", "Version: 2"))),
    ("INVALID_MESSAGE", lambda s, w: _header(w, w.text(s.host, address=w.address.lower()))),
    ("INVALID_MESSAGE", lambda s, w: _header(w, w.text(s.host, nonce="short"))),
    ("ADDRESS_MISMATCH", lambda s, w: _header(w, w.text(s.host), address=s.wallet(9).address)),
    ("INVALID_WALLET", lambda s, w: _header(w, w.text(s.host), address="0x12")),
    ("INVALID_CHAIN_ID", lambda s, w: _header(w, w.text(s.host), chainId="base")),
    ("CHAIN_MISMATCH", lambda s, w: _header(w, w.text(s.host), chainId=1)),
    ("UNSUPPORTED_CHAIN", lambda s, w: _header(w, w.text(s.host, chain="1"), chainId=1)),
    ("UNSUPPORTED_CHAIN", lambda s, w: _header(w, w.text(s.host).replace("Chain ID: 8453\n", ""), chainId=1)),
    ("MISSING_NONCE", lambda s, w: _header(w, w.text(s.host, nonce=""))),
    ("DOMAIN_MISMATCH", lambda s, w: _header(w, w.text("api.venice.ai"))),
    ("DOMAIN_MISMATCH", lambda s, w: _header(w, w.text("127.0.0.1:1"))),
    ("TIMESTAMP_MISMATCH", lambda s, w: _header(w, w.text(s.host), timestamp=1)),
    ("EXPIRED", lambda s, w: _header(w, w.text(s.host, issued=iso(s.clock.now() - 301)))),
    ("EXPIRED", lambda s, w: _header(w, w.text(s.host, expires=iso(s.clock.now())))),
    ("FUTURE_TIMESTAMP", lambda s, w: _header(w, w.text(s.host, issued=iso(s.clock.now() + 31)))),
    ("NOT_BEFORE", lambda s, w: _header(w, w.text(s.host) + f"\nNot Before: {iso(s.clock.now() + 9)}")),
    ("INVALID_SIGNATURE", _changed_text),
    ("INVALID_SIGNATURE", _changed_signature),
    ("INVALID_SIGNATURE", _high_s),
]


@pytest.mark.parametrize(("word", "change"), REFUSED, ids=[f"{n}-{w}" for n, (w, _) in enumerate(REFUSED)])
def test_a_changed_sign_in_is_refused_with_its_own_word(
    word: str, change: Change, open_shop: OpenShop
) -> None:
    shop = open_shop()
    wallet = shop.wallet()
    body = {"model": "elevenlabs-music", "queue_id": "none"}
    answer = shop.post("/audio/retrieve", body, change(shop, wallet))
    assert (answer.status_code, answer.json()["code"]) == (401, f"X402_SIGN_IN_{word}")
    on_wallet_route = shop.http.get(f"/x402/balance/{wallet.address}", headers=change(shop, wallet))
    assert on_wallet_route.status_code == 401
    assert on_wallet_route.json() == {"error": "Invalid Sign-in-with-x signature"}


def test_a_nonce_serves_once_even_when_its_request_failed(open_shop: OpenShop) -> None:
    shop = open_shop()
    headers = shop.wallet().sign_in(shop.host)
    first = shop.post("/audio/queue", {"model": "no-such-model", "prompt": "x"}, headers)
    assert first.status_code == 402
    second = shop.post("/audio/queue", {"model": "no-such-model", "prompt": "x"}, headers)
    assert second.json()["code"] == "X402_SIGN_IN_NONCE_REUSED"
