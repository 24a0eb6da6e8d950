"""Puts the rooms together from settings: signer, books, sessions, and one desk per seller. Holds no rules of money.

The only place that names concrete sellers. Everything is made when first needed: reading a job list opens no key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import httpx

from x402_audio.clock import Clock, Random
from x402_audio.errors import ConfigurationError, InsufficientBalance, ProtocolError, X402AudioError
from x402_audio.flow import Flow, call, forget_locals
from x402_audio.jobs.desk import Desk, JobOptions
from x402_audio.jsontext import read_json, write_json
from x402_audio.ledger.book import Event, Ledger
from x402_audio.ledger.owner import this_owner
from x402_audio.ledger.rates import Rates
from x402_audio.ledger.sqlite import SqliteLedger
from x402_audio.money import ZERO, Usdc
from x402_audio.notices import Notice, OnNotice
from x402_audio.notify import NEWS, Notifier, news_of
from x402_audio.payment.origin import origin_of
from x402_audio.payment.session import SellerSession
from x402_audio.protocol.networks import Network, network_named
from x402_audio.protocol.signer import LocalSigner, Signer
from x402_audio.protocol.siwx import CURRENT_HEADERS, LEGACY_HEADERS
from x402_audio.providers.provider import Provider
from x402_audio.providers.venice import VENICE_ORIGIN, VENICE_PAYEE, AccountBalance, Venice
from x402_audio.settings import Settings

if TYPE_CHECKING:
    from x402_audio.payment.chain import ChainReader
    from x402_audio.payment.policy import PaymentPolicy
    from x402_audio.payment.prepaid import Account
    from x402_audio.providers.catalog import ModelSpec

MODELS_FRESH_S: Final = 600
SellerKind = Literal["venice", "direct"]


class Wiring:
    """One set of settings, wired. Not thread-bound: the ledger and the signer may be shared."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        random: Random,
        on_notice: OnNotice,
        signer: Signer | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.random = random
        self.on_notice = on_notice
        network = network_named(settings.network)
        if network is None:
            raise ConfigurationError(f"NETWORK {settings.network} is not base or base-sepolia")
        self.network: Network = network
        self._signer = signer
        self._ledger = ledger
        self._rates: Rates | None = None
        self._chain: ChainReader | None = None
        self._said = False
        self._making = threading.RLock()
        self._notifier = (
            Notifier(settings.notify_command, on_failure=on_notice) if settings.notify_command else None
        )
        self._deaf: Callable[[], None] | None = None

    # --- made when first needed
    @property
    def ledger(self) -> Ledger:
        with self._making:
            if self._ledger is None:
                self._ledger = SqliteLedger(self.settings.ledger, clock=self.clock, random=self.random)
            if self._deaf is None:
                self._deaf = self._ledger.listen(self._heard)
            return self._ledger

    def _heard(self, event: Event) -> None:
        news = news_of(event)
        if news is not None:
            self.tell(news)

    def tell(self, notice: Notice) -> None:
        """Tell whoever listens and, where it is news for the owner, the command of the settings."""
        self.on_notice(notice)
        if self._notifier is not None and notice.kind in NEWS:
            self._notifier(notice)

    @property
    def rates(self) -> Rates:
        if self._rates is None:
            tell = self.on_notice
            self._rates = Rates(
                self.settings.ledger, clock=self.clock, on_trouble=lambda text: tell(Notice("warning", text))
            )
        return self._rates

    @property
    def chain(self) -> ChainReader | None:
        with self._making:
            if self._chain is None and self.settings.rpc_urls:
                from x402_audio.payment.chain import ChainReader

                self._chain = ChainReader(self.settings.rpc_urls, self.network)
            return self._chain

    @property
    def on_account(self) -> bool:
        """Jobs draw an account key instead of a wallet."""
        settings = self.settings
        if settings.billing == "account":
            return True
        has_wallet = bool(settings.private_key) or settings.keystore is not None or self._signer is not None
        if has_wallet and settings.venice_api_key and not self._said:
            self._said = True
            self.on_notice(
                Notice(
                    "warning",
                    "a wallet and an account key are set: the wallet pays (BILLING=account chooses the key)",
                )
            )
        return not has_wallet and bool(settings.venice_api_key)

    @property
    def signer(self) -> Signer:
        """The wallet. Raises ConfigurationError when none is set."""
        with self._making:
            if self._signer is None:
                try:
                    self._signer = open_signer(self.settings)
                except X402AudioError as error:
                    forget_locals(error)  # a refused key or password must not stand in a report with locals
                    raise
            return self._signer

    @property
    def wallet(self) -> str:
        """The name jobs and holds are kept under: the address, or `account` for a key."""
        return "account" if self.on_account else self.signer.address

    # --- sellers
    def session(self, api_url: str) -> SellerSession:
        settings = self.settings
        profile = LEGACY_HEADERS if settings.header_profile == "legacy" else CURRENT_HEADERS
        session = partial(
            SellerSession, api_url, clock=self.clock, random=self.random, rates=self.rates, profile=profile
        )
        if not self.on_account:
            return session(signer=self.signer)
        origin = origin_of(httpx.URL(api_url))
        if origin not in (VENICE_ORIGIN, settings.account_origin):
            raise ConfigurationError(
                f"the account key belongs to {settings.account_origin or VENICE_ORIGIN} and is not sent to {origin}",
                next_step="name the origin beside the key, or use a wallet",
            )
        return session(bearer=settings.venice_api_key)

    def seller_kind(self, session: SellerSession) -> Flow[SellerKind]:
        """Named, known by its origin, remembered, or asked once with a signed-in balance call. Raises ProtocolError."""
        named = self.settings.provider
        if named in ("venice", "direct"):
            return "venice" if named == "venice" else "direct"
        if session.origin == VENICE_ORIGIN or self.on_account:
            return "venice"
        kept = yield from call(lambda: self.ledger.seller_kind(session.origin))
        if kept in ("venice", "direct"):
            return "venice" if kept == "venice" else "direct"
        seller = Venice(clock=self.clock)
        answer = yield from session.ask(seller.ask_balance(session.wallet))
        kind: SellerKind
        if answer.status == 200:
            found = seller.read_balance(answer, session.wallet)
            minimum = found.minimum_top_up or ZERO
            yield from call(
                lambda: self.ledger.record_reading(
                    session.wallet, session.origin, found.credit, diem=found.diem, minimum_top_up=minimum
                )
            )
            kind = "venice"
        elif answer.status in (404, 405):
            kind = "direct"
        else:
            raise ProtocolError(
                f"{session.origin} answered {answer.status} when asked for a balance; its kind of seller is not clear",
                next_step="name it: --provider venice or --provider direct",
            )
        yield from call(lambda: self.ledger.remember_seller(session.origin, kind))
        self.on_notice(
            Notice(
                "seller",
                f"{session.origin} is a {kind} seller",
                "",
                {"provider": kind, "origin": session.origin},
            )
        )
        return kind

    def desk(self, kind: SellerKind, session: SellerSession, options: JobOptions) -> Desk:
        """Everything one job's steps need."""
        from x402_audio.payment.pay import Payer
        from x402_audio.payment.prepaid import Account
        from x402_audio.providers.direct import DirectSeller

        provider: Provider
        account: Account | None = None
        if kind == "direct":
            provider = DirectSeller(clock=self.clock)
        else:
            venice = Venice(billing="account" if self.on_account else "credit", clock=self.clock)
            provider = venice
            if not self.on_account:
                account = Account(session, venice, self.ledger, self.clock, self.on_notice)
        payer = None
        if not self.on_account:
            payer = Payer(
                self.signer, self.ledger, limits=self.settings.limits, clock=self.clock, random=self.random,
                environment=self.settings.environment, chain=self.chain, on_notice=self.on_notice,
            )  # fmt: skip
        return Desk(
            ledger=self.ledger, provider=provider, session=session, account=account, payer=payer,
            limits=tuple(self.settings.limits), network=self.network, environment=self.settings.environment,
            policy=self.policy, specs=lambda: self.specs(provider, session),
            account_funds=lambda price: self._account_funds(session, price),
            top_ups_allowed=self._top_ups_allowed(session, options), clock=self.clock, random=self.random,
            owner=this_owner(), place=str(self.settings.ledger), on_notice=self.on_notice,
            store_prompts=self.settings.store_prompts,
        )  # fmt: skip

    def policy(self, options: JobOptions, quoted: Usdc | None) -> PaymentPolicy:
        """The rules one demand is judged by. A payee named by flag narrows what is allowed, and widens nothing."""
        from x402_audio.payment.policy import PaymentPolicy

        return PaymentPolicy(
            network=self.network,
            max_amount=Usdc.parse_usd(options.max_price)
            if options.max_price and quoted is not None
            else None,
            quoted=quoted,
            validity_s=self.settings.max_validity_s,
            allowed_payees=self.settings.payees,
            only_payee=options.payee,
            expected_payees={VENICE_ORIGIN: VENICE_PAYEE},
        )

    def _top_ups_allowed(self, session: SellerSession, options: JobOptions) -> bool:
        """Top-ups only at Venice, at the configured API_URL, or where --api-url and --max-top-up came together."""
        settings = self.settings
        configured = origin_of(httpx.URL(settings.api_url)) == session.origin
        if session.origin == VENICE_ORIGIN or (configured and settings.api_url_source != "flag"):
            return True
        return options.max_top_up is not None

    # --- what sellers say of their models
    def specs(self, provider: Provider, session: SellerSession) -> Flow[Mapping[str, ModelSpec]]:
        """The model list, minutes old at most where the seller answers, else the newest kept one."""
        key = f"models {session.api_url}"
        kept = yield from call(lambda: self.ledger.recall(key))
        now = yield from call(self.ledger.now)
        if kept is not None and now - kept[1] < MODELS_FRESH_S:
            return _unpack(kept[0])
        try:
            answer = yield from session.ask(provider.ask_models())
            if answer.status in (404, 405, 501) and provider.billing == "direct":
                return {}
            specs = provider.read_models(answer)
        except X402AudioError:
            if kept is None:
                raise
            age = int((now - kept[1]) / 60)
            self.on_notice(
                Notice(
                    "warning", f"the seller's model list could not be read; one from {age} min ago is used"
                )
            )
            return _unpack(kept[0])
        packed = write_json([spec.to_json() for spec in specs])
        yield from call(lambda: self.ledger.remember(key, packed))
        return {spec.id: spec for spec in specs}

    def close(self) -> None:
        """Close the books and the way to the chain."""
        if self._chain is not None:
            self._chain.close()
        if self._ledger is not None:
            self._ledger.close()

    def still(self) -> None:
        """Hear no more of the books, and wait a moment for news under way."""
        if self._deaf is not None:
            self._deaf()
        if self._notifier is not None:
            self._notifier.close()

    def _account_funds(self, session: SellerSession, price: Usdc) -> Flow[None]:
        """The gate of account mode: what the key may spend covers the price."""
        balance = yield from self._account(session)
        if not balance.permitted or balance.largest < price:
            missing = Usdc(max(price - balance.largest, ZERO))
            raise InsufficientBalance(
                f"the account has {balance.largest} in one currency and {price} is needed",
                balance=balance.largest, needed=price, missing=missing, suggested_top_up=missing,
                next_step="add funds to the account at the seller, then: x402-audio resume",
            )  # fmt: skip

    def _account(self, session: SellerSession) -> Flow[AccountBalance]:
        seller = Venice(billing="account", clock=self.clock)
        return seller.read_account_balance((yield from session.ask(seller.ask_key_limits())))

    def account_balance(self, session: SellerSession) -> Flow[Mapping[str, object]]:
        """What the key may spend, per currency in USD text."""
        held = yield from self._account(session)
        purses = {"usd": held.usd, "diem": held.diem, "bundled": held.bundled, "earned": held.earned}
        return {
            "permitted": held.permitted,
            **{name: value.usd for name, value in purses.items() if value is not None},
        }


def _unpack(text: str) -> dict[str, ModelSpec]:
    from x402_audio.providers.catalog import ModelSpec

    rows = read_json(text, bytes_max=16 << 20)
    specs = (
        [ModelSpec.from_json(row) for row in rows if isinstance(row, str)] if isinstance(rows, list) else []
    )
    return {spec.id: spec for spec in specs}


def open_signer(settings: Settings) -> Signer:
    """The wallet of the settings: a key, or a keystore with its password file. Raises ConfigurationError, SignerError."""
    if settings.private_key:
        return LocalSigner.from_hex(settings.private_key.reveal())
    if settings.keystore is None:
        raise ConfigurationError(
            "no wallet is set",
            next_step="set X402_AUDIO_PRIVATE_KEY or X402_AUDIO_KEYSTORE, or run: x402-audio wallet new",
        )
    from x402_audio.protocol.keystore import open_keystore

    if settings.keystore_password_file is None:
        raise ConfigurationError("KEYSTORE needs KEYSTORE_PASSWORD_FILE, a file only you can read")
    try:
        password = settings.keystore_password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{settings.keystore_password_file} cannot be read") from None
    return open_keystore(settings.keystore, password)
