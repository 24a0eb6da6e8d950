"""The front door: `AudioClient` and `AsyncAudioClient`, the same verbs on a plain or an awaited HTTP client.

Both only drive the flows of `verbs.py`; there is no rule here. Redirects are never followed, loopback is never asked
through a proxy, and nothing is opened before it is needed.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import httpx

from x402_audio.clock import Clock, Random, SystemClock, system_random
from x402_audio.flow import run, run_async
from x402_audio.ledger.book import Allowance, Hold, JobRecord, Ledger
from x402_audio.notices import OnNotice, ignore
from x402_audio.payment.origin import is_loopback
from x402_audio.protocol.networks import Network
from x402_audio.protocol.signer import Signer
from x402_audio.providers.provider import Track, TransactionPage
from x402_audio.settings import Settings, load_settings
from x402_audio.verbs import AudioWishes, JobWishes, Verbs
from x402_audio.wiring import Wiring

if TYPE_CHECKING:
    from x402_audio.budget import Budget
    from x402_audio.payment.chain import ChainReader
    from x402_audio.payment.reconcile import ReconcileReport
    from x402_audio.providers.catalog import ModelSpec
    from x402_audio.reports import BalanceReport, InspectReport, Outcome, QuoteReport

TIMEOUT_S = 900.0
_LOOPBACK = ("all://127.0.0.1", "all://[::1]", "all://localhost")
_POOL = httpx.Limits(max_connections=16, max_keepalive_connections=8)


class _Front:
    """What both faces share: settings, books, wallet name."""

    def __init__(
        self,
        settings: Settings,
        *,
        signer: Signer | None = None,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
        random: Random = system_random,
        on_notice: OnNotice = ignore,
    ) -> None:
        self._clock = clock or SystemClock()
        self._wiring = Wiring(
            settings, clock=self._clock, random=random, on_notice=on_notice, signer=signer, ledger=ledger
        )
        self._verbs = Verbs(self._wiring)
        self._own_ledger = ledger is None

    @property
    def settings(self) -> Settings:
        return self._wiring.settings

    @property
    def ledger(self) -> Ledger:
        """The books, opened when first needed."""
        return self._wiring.ledger

    @property
    def wallet(self) -> str:
        """EIP-55 address of the wallet, or `account` where a key pays."""
        return self._wiring.wallet

    @property
    def network(self) -> Network:
        """The configured chain."""
        return self._wiring.network

    @property
    def chain(self) -> ChainReader | None:
        """The chain as a witness, None where no RPC is set."""
        return self._wiring.chain

    @property
    def signer(self) -> Signer:
        """Who signs for the wallet. Raises ConfigurationError when none is set."""
        return self._wiring.signer

    def jobs(self, *, unfinished: bool = False) -> list[JobRecord]:
        """Stored jobs, oldest first; no network."""
        return self.ledger.jobs(unfinished=unfinished)

    def unfinished(self) -> list[JobRecord]:
        """Jobs of this wallet that still want something."""
        return self.ledger.jobs(wallet=self.wallet, unfinished=True)

    def job(self, job_id: str) -> JobRecord:
        """One stored job. Raises UnknownJob."""
        return self.ledger.job(job_id)

    def _until(self, timeout: float) -> float:
        return self._clock.monotonic() + timeout

    def _close_books(self) -> None:
        self._wiring.still()
        if self._own_ledger:
            self._wiring.close()


class AudioClient(_Front):
    """Buys audio. Every money limit is checked in the ledger before anything is signed.

    Amounts are USD text. All verbs raise the typed errors of `x402_audio.errors`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        http: httpx.Client | None = None,
        signer: Signer | None = None,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
        random: Random = system_random,
        on_notice: OnNotice = ignore,
    ) -> None:
        super().__init__(
            settings, signer=signer, ledger=ledger, clock=clock, random=random, on_notice=on_notice
        )
        self._http = http
        self._own_http = http is None
        self._making = threading.Lock()

    @classmethod
    def from_env(cls, *, budget: Budget | None = None, on_notice: OnNotice = ignore, **flags: str) -> Self:
        """Settings from the environment and the current folder's `.env`; flags as `load_settings` takes them.

        With a budget everything is bought under its label and within its limit too.
        """
        return cls(_within(load_settings(flags=flags), budget), on_notice=on_notice)

    @property
    def http(self) -> httpx.Client:
        from x402_audio.patience import patient

        with self._making:
            if self._http is None:
                self._http = patient(
                    httpx.Client(
                        limits=_POOL,
                        follow_redirects=False,
                        mounts=dict.fromkeys(_LOOPBACK),
                        verify=_tls(self.settings.api_url),
                        trust_env=not is_loopback(httpx.URL(self.settings.api_url).host),
                    )
                )
            return self._http

    def generate(
        self, prompt: str, *, model: str, timeout: float = TIMEOUT_S, **wishes: Unpack[JobWishes]
    ) -> Track:
        """Buy one track: price, gate, payment, waiting, file. timeout: seconds of waiting; the job goes on after it."""
        return run(self._verbs.generate(prompt, model, self._until(timeout), wishes), self.http, time.sleep)

    def submit(self, prompt: str, *, model: str, **wishes: Unpack[JobWishes]) -> JobRecord:
        """Check and store a job for later; nothing is paid."""
        return run(self._verbs.submit(prompt, model, wishes), self.http, time.sleep)

    def resume(
        self, job_id: str, *, timeout: float = TIMEOUT_S, poll_interval: float | None = None,
        use_suggestion: bool = False, output: str | None = None, force: bool = False, wait_parked: bool = False,
    ) -> Track:  # fmt: skip
        """Take a stored job on from wherever it stands; a completed one returns its file."""
        flow = self._verbs.resume(
            job_id, self._until(timeout), poll_interval=poll_interval, use_suggestion=use_suggestion, output=output,
            force=force, wait_parked=wait_parked,
        )  # fmt: skip
        return run(flow, self.http, time.sleep)

    def work(
        self, *, timeout: float = TIMEOUT_S, poll_interval: float | None = None, until_idle: bool = False
    ) -> list[Outcome]:
        """Advance all unfinished jobs of the wallet, those waiting for funds included."""
        flow = self._verbs.work(self._until(timeout), poll_interval=poll_interval, until_idle=until_idle)
        return run(flow, self.http, time.sleep)

    def cancel(self, job_id: str) -> JobRecord:
        """End a job that is not paid."""
        return run(self._verbs.cancel(job_id), self.http, time.sleep)

    def quote(self, prompt: str = "", *, model: str, **wishes: Unpack[AudioWishes]) -> QuoteReport:
        """The price of a request, and whether it could be paid now."""
        return run(self._verbs.quote(prompt, model, wishes), self.http, time.sleep)

    def models(self) -> tuple[ModelSpec, ...]:
        """What the seller's models can do and cost."""
        return run(self._verbs.models(), self.http, time.sleep)

    def seller(self) -> str:
        """`venice` (prepaid credit) or `direct`."""
        return run(self._verbs.seller(), self.http, time.sleep)

    def balance(self) -> BalanceReport:
        """Credit at the seller, and USDC on chain where an RPC is set."""
        return run(self._verbs.balance(), self.http, time.sleep)

    def top_up(self, amount: str, *, max_top_up: str | None = None) -> Hold:
        """Buy credit once; returns the settled hold."""
        return run(self._verbs.top_up(amount, max_top_up), self.http, time.sleep)

    def transactions(self, *, limit: int = 50, offset: int = 0) -> TransactionPage:
        """The seller's own ledger of this wallet, newest first."""
        return run(self._verbs.transactions(limit, offset), self.http, time.sleep)

    def budget(self) -> list[Allowance]:
        """Every limit: spent, at risk, left; no network."""
        return run(self._verbs.budget(), self.http, time.sleep)

    def reconcile(self) -> ReconcileReport:
        """Books against chain and seller; decides what can be decided."""
        return run(self._verbs.reconcile(), self.http, time.sleep)

    def inspect(self, url: str, *, method: str = "GET") -> InspectReport:
        """What a URL's 402 asks for, and whether it would be paid; signs nothing."""
        return run(self._verbs.inspect(url, method), self.http, time.sleep)

    def close(self) -> None:
        if self._own_http and self._http is not None:
            self._http.close()
        self._close_books()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncAudioClient(_Front):
    """As `AudioClient`, awaited. Blocking work (books, signing, disk) runs in threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        http: httpx.AsyncClient | None = None,
        signer: Signer | None = None,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
        random: Random = system_random,
        on_notice: OnNotice = ignore,
    ) -> None:
        super().__init__(
            settings, signer=signer, ledger=ledger, clock=clock, random=random, on_notice=on_notice
        )
        self._http = http
        self._own_http = http is None

    @classmethod
    def from_env(cls, *, budget: Budget | None = None, on_notice: OnNotice = ignore, **flags: str) -> Self:
        """Settings from the environment and the current folder's `.env`; flags as `load_settings` takes them.

        With a budget everything is bought under its label and within its limit too.
        """
        return cls(_within(load_settings(flags=flags), budget), on_notice=on_notice)

    @property
    def http(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                limits=_POOL,
                follow_redirects=False,
                mounts=dict.fromkeys(_LOOPBACK),
                verify=_tls(self.settings.api_url),
                trust_env=not is_loopback(httpx.URL(self.settings.api_url).host),
            )
        return self._http

    async def generate(
        self, prompt: str, *, model: str, timeout: float = TIMEOUT_S, **wishes: Unpack[JobWishes]
    ) -> Track:
        """See `AudioClient.generate`."""
        return await run_async(self._verbs.generate(prompt, model, self._until(timeout), wishes), self.http)

    async def submit(self, prompt: str, *, model: str, **wishes: Unpack[JobWishes]) -> JobRecord:
        """See `AudioClient.submit`."""
        return await run_async(self._verbs.submit(prompt, model, wishes), self.http)

    async def resume(
        self, job_id: str, *, timeout: float = TIMEOUT_S, poll_interval: float | None = None,
        use_suggestion: bool = False, output: str | None = None, force: bool = False, wait_parked: bool = False,
    ) -> Track:  # fmt: skip
        """See `AudioClient.resume`."""
        flow = self._verbs.resume(
            job_id, self._until(timeout), poll_interval=poll_interval, use_suggestion=use_suggestion, output=output,
            force=force, wait_parked=wait_parked,
        )  # fmt: skip
        return await run_async(flow, self.http)

    async def work(
        self, *, timeout: float = TIMEOUT_S, poll_interval: float | None = None, until_idle: bool = False
    ) -> list[Outcome]:
        """See `AudioClient.work`."""
        flow = self._verbs.work(self._until(timeout), poll_interval=poll_interval, until_idle=until_idle)
        return await run_async(flow, self.http)

    async def cancel(self, job_id: str) -> JobRecord:
        """See `AudioClient.cancel`."""
        return await run_async(self._verbs.cancel(job_id), self.http)

    async def quote(self, prompt: str = "", *, model: str, **wishes: Unpack[AudioWishes]) -> QuoteReport:
        """See `AudioClient.quote`."""
        return await run_async(self._verbs.quote(prompt, model, wishes), self.http)

    async def models(self) -> tuple[ModelSpec, ...]:
        """See `AudioClient.models`."""
        return await run_async(self._verbs.models(), self.http)

    async def seller(self) -> str:
        """See `AudioClient.seller`."""
        return await run_async(self._verbs.seller(), self.http)

    async def balance(self) -> BalanceReport:
        """See `AudioClient.balance`."""
        return await run_async(self._verbs.balance(), self.http)

    async def top_up(self, amount: str, *, max_top_up: str | None = None) -> Hold:
        """See `AudioClient.top_up`."""
        return await run_async(self._verbs.top_up(amount, max_top_up), self.http)

    async def transactions(self, *, limit: int = 50, offset: int = 0) -> TransactionPage:
        """See `AudioClient.transactions`."""
        return await run_async(self._verbs.transactions(limit, offset), self.http)

    async def budget(self) -> list[Allowance]:
        """See `AudioClient.budget`."""
        return await run_async(self._verbs.budget(), self.http)

    async def reconcile(self) -> ReconcileReport:
        """See `AudioClient.reconcile`."""
        return await run_async(self._verbs.reconcile(), self.http)

    async def inspect(self, url: str, *, method: str = "GET") -> InspectReport:
        """See `AudioClient.inspect`."""
        return await run_async(self._verbs.inspect(url, method), self.http)

    async def close(self) -> None:
        if self._own_http and self._http is not None:
            await self._http.aclose()
        self._close_books()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _within(settings: Settings, budget: Budget | None) -> Settings:
    if budget is None:
        return settings
    return replace(settings, label=budget.name, limits=(*settings.limits, budget.as_limit()))


def _tls(api_url: str) -> bool | ssl.SSLContext:
    """A plain-http loopback seller needs no certificates loaded."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if api_url.startswith("http://") else True


__all__ = ["AsyncAudioClient", "AudioClient"]
