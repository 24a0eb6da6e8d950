"""Commands for the wallet: make or bring a key into an encrypted keystore, its address, its USDC. No key is ever shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from x402_audio.cli.output import Report, money
from x402_audio.cli.owner import ask_password, at_a_terminal
from x402_audio.cli.stage import Stage, make_private_folder
from x402_audio.errors import ConfigurationError

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
        raise ConfigurationError(
            "RPC_URL is not set, so the chain cannot be read", next_step="set X402_AUDIO_RPC_URL"
        )
    from x402_audio.payment.chain import ChainReader
    from x402_audio.protocol.networks import BASE, network_named

    amount = ChainReader(settings.rpc_urls, network_named(settings.network) or BASE).usdc_balance(wallet)
    told = {"address": wallet, "network": settings.network, **money("usdc", amount)}
    return Report(told, [f"{amount} USDC of {wallet} on {settings.network}"])
