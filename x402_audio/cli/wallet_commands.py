"""Commands for the wallet: make or bring a key into an encrypted keystore, its address, its USDC. No key is ever shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from x402_audio.cli.output import Report, money, when
from x402_audio.cli.owner import ask_password, at_a_terminal, confirm, need_terminal
from x402_audio.cli.records import hold_fields
from x402_audio.cli.stage import Stage, make_private_folder
from x402_audio.errors import (
    ConfigurationError,
    InsufficientBalance,
    PaymentRefused,
    PaymentUnsettled,
    UnknownHold,
)

if TYPE_CHECKING:
    from x402_audio.client import AudioClient
    from x402_audio.ledger.book import Hold

FINAL_AFTER_MIN: Final = 20
PASSWORD_BYTES_MAX = 4096


def new(stage: Stage) -> Report:
    """A new key in a new keystore."""
    from x402_audio.clock import system_random
    from x402_audio.protocol.keystore import create_keystore

    return _store(stage, lambda path, password: create_keystore(path, password, system_random))


def bring(stage: Stage) -> Report:
    """A known key, typed unseen or piped in, into a new keystore."""
    from x402_audio.protocol.keystore import import_keystore

    key = ask_password("private key") if at_a_terminal() else sys.stdin.readline(PASSWORD_BYTES_MAX)
    stage.output.hide(key.strip())
    return _store(stage, lambda path, password: import_keystore(path, key.strip(), password))


def _store(stage: Stage, write: Callable[[Path, str], str]) -> Report:
    from x402_audio.settings import KEYSTORE_NAME

    settings = stage.settings
    path = settings.keystore or settings.state_dir / KEYSTORE_NAME
    password = _password(stage)
    make_private_folder(settings.state_dir)
    wallet = write(path, password)
    if settings.private_key:
        stage.output.warn(
            "a private key is set too and is used instead of this keystore; remove it from the settings"
        )
    stage.output.say(f"keystore: {path}; keep it and its password, nobody can bring them back")
    if settings.keystore_password_file is None:
        stage.output.say("to use it without a terminal, set X402_AUDIO_KEYSTORE_PASSWORD_FILE")
    return Report({"address": wallet, "keystore": str(path)}, [wallet])


def _password(stage: Stage) -> str:
    file = stage.settings.keystore_password_file
    if file is None:
        if not at_a_terminal():
            raise ConfigurationError(
                "a keystore needs a password",
                next_step="use a terminal, or set X402_AUDIO_KEYSTORE_PASSWORD_FILE",
            )
        password = ask_password("password of the new keystore", twice=True)
    else:
        try:
            password = file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(f"KEYSTORE_PASSWORD_FILE {file} cannot be read") from None
    stage.output.hide(password)
    return password


def address(stage: Stage) -> Report:
    """The wallet's address; a keystore names it without its password."""
    wallet = wallet_of(stage)
    return Report({"address": wallet}, [wallet])


def wallet_of(stage: Stage) -> str:
    """The address of the wallet in the settings (EIP-55). Raises ConfigurationError, SignerError."""
    settings = stage.settings
    if settings.keystore is not None and not settings.private_key:
        from x402_audio.protocol.keystore import keystore_address

        return keystore_address(settings.keystore)
    from x402_audio.wiring import open_signer

    return open_signer(settings).address


def balance(stage: Stage) -> Report:
    """USDC of the wallet on chain."""
    settings = stage.settings
    wallet = wallet_of(stage)
    if not settings.rpc_urls:
        raise _no_rpc()
    from x402_audio.payment.chain import ChainReader
    from x402_audio.protocol.networks import BASE, network_named

    amount = ChainReader(settings.rpc_urls, network_named(settings.network) or BASE).usdc_balance(wallet)
    told = {"address": wallet, "network": settings.network, **money("usdc", amount)}
    return Report(told, [f"{amount} USDC of {wallet} on {settings.network}"])


def cancel(stage: Stage) -> Report:
    """Cancel an open authorization on chain: the owner's act, paid in ether. The chain alone frees the hold."""
    from x402_audio.payment.cancel import ether, plan_cancellation, send_cancellation

    need_terminal("cancelling on chain")
    settings = stage.settings
    if not settings.rpc_urls:
        raise _no_rpc()
    with stage.client() as client:
        hold = _open_authorization(client, stage.args.nonce)
        ends = f"it ends by itself at {when(hold.valid_before)}, and the chain frees it about {FINAL_AFTER_MIN} minutes later"
        chain = client.chain
        assert chain is not None
        plan = plan_cancellation(chain, hold.wallet, hold.nonce)
        if chain.latest_time() >= hold.valid_before:
            told = f"nothing to cancel: {hold.amount} to {hold.pay_to} ended at {when(hold.valid_before)}"
            return Report(
                _told(hold, None), [f"{told}; once that is final: x402-audio reconcile"], exit_code=10
            )
        if not plan.affordable:
            raise InsufficientBalance(
                f"the wallet has {ether(plan.ether)} ETH and a cancellation needs up to {ether(plan.cost)}; nothing was"
                f" sent; {ends}",
                money_moved="unknown", owner="time", next_step=f"wait until {when(hold.valid_before)}, then: x402-audio"
                " reconcile; or send ETH to the wallet and repeat", nonce=hold.nonce, valid_before=hold.valid_before,
            )  # fmt: skip
        act = f"cancelling {hold.amount} to {hold.pay_to} for up to {ether(plan.cost)} ETH of gas ({ends})"
        confirm(stage.output, client.ledger, act, "cancel")
        sent = send_cancellation(chain, client.signer, plan, time.sleep)
    if sent.mined is False:
        raise PaymentUnsettled(
            f"the cancellation {sent.transaction} failed; the payment may have been used first", hold_id=hold.id,
            nonce=hold.nonce, valid_before=hold.valid_before,
        )  # fmt: skip
    how = "is in a block" if sent.mined else "was sent and is in no block yet"
    text = (
        f"the cancellation {sent.transaction} {how}; {hold.amount} stays counted until that is final"
        f" (about {FINAL_AFTER_MIN} minutes), then: x402-audio reconcile"
    )
    return Report(_told(hold, sent.transaction), [text])


def _open_authorization(client: AudioClient, nonce: str) -> Hold:
    """The hold with this nonce, if its authorization may still be used. Raises what says why not."""
    found = [hold for hold in client.ledger.holds(wallet=client.wallet) if hold.nonce == nonce.lower()]
    if not found or found[0].kind not in ("direct", "topup"):
        raise UnknownHold(
            "these books have no authorization of this wallet with that nonce", owner="agent",
            next_step="see: x402-audio ledger export",
        )  # fmt: skip
    hold = found[0]
    if hold.network != client.network.caip2:
        raise ConfigurationError(
            f"that authorization is for {hold.network}, the settings are for {client.network.caip2}; nothing was sent",
            next_step="set X402_AUDIO_NETWORK to it, and an RPC_URL of it",
        )
    if hold.state not in ("signed", "presumed"):
        raise PaymentRefused(
            f"that authorization is {hold.state}; there is nothing to cancel",
            money_moved="yes" if hold.state == "settled" else "no",
        )
    return hold


def _told(hold: Hold, transaction: str | None) -> dict[str, object]:
    return {**hold_fields(hold), "cancellation": transaction}


def _no_rpc() -> ConfigurationError:
    return ConfigurationError(
        "RPC_URL is not set, so the chain cannot be read", next_step="set X402_AUDIO_RPC_URL"
    )
