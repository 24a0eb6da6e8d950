"""What a person or an agent can ask for, each verb once, as flows over the wired rooms. No I/O of its own.

`client.py` gives them a sync and an async face. Order of every purchase: look whether the job exists, check the
request and the output place, store the job, then walk it (`jobs/advance.py`). What walks it is loaded then, all of it
at once: nobody waits for it before the first question, and nothing is left to load once money moves.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, cast

import httpx

from x402_audio.errors import (
    ApprovalWanted,
    ChainError,
    ConfigurationError,
    InsufficientBalance,
    JobTimedOut,
    OpenJobExists,
    PaymentRefused,
    PaymentUnsettled,
    RequestInvalid,
    UnknownJob,
    X402AudioError,
)
from x402_audio.flow import Flow, call, send, sleep
from x402_audio.jobs.desk import Desk, JobOptions, audio_of
from x402_audio.ledger.book import ENDED_JOBS, LIVE, Allowance, Hold, JobRecord, Ledger, NewJob
from x402_audio.money import ZERO, Usdc
from x402_audio.own_files import check_not_ours
from x402_audio.payment.session import SellerSession
from x402_audio.providers.provider import AudioRequest, Track, TransactionPage, request_from
from x402_audio.wiring import Wiring

if TYPE_CHECKING:
    from x402_audio.payment.reconcile import ReconcileReport
    from x402_audio.providers.catalog import ModelSpec
    from x402_audio.reports import BalanceReport, InspectReport, Outcome, QuoteReport

SIMILAR_WITHIN_S: Final = 3600
JOB_ID_CHARS_MAX: Final = 200
"""The default file is called after the job, and no file system takes much more."""
FIRST_LEDGER_S: Final = 120
LOOK_EVERY_S: Final = 2.0
"""How often `work` looks for jobs that others stored, and for credit."""
REST_MAX_S: Final = 60.0
"""A job that cannot go on (no chain, no seller) is left alone for twice as long each time, at most this long."""


class AudioWishes(TypedDict, total=False):
    """The audio fields of a request; see `AudioRequest`."""

    duration_seconds: int | None
    lyrics: str | None
    instrumental: bool | None
    voice: str | None
    language: str | None
    speed: str | None
    loop: bool | None
    lyrics_optimizer: bool | None


class JobWishes(AudioWishes, total=False):
    """And what the caller wants of the job. Money as USD text, e.g. `max_price="0.75"`."""

    max_price: str | None
    max_top_up: str | None
    max_total: str | None
    payee: str | None
    job_id: str | None
    again: bool
    poll_interval: float | None
    output: str | os.PathLike[str] | None
    force: bool
    keep_remote: bool


_AUDIO: Final = frozenset(AudioWishes.__annotations__)


class Verbs:
    """Every verb as a flow."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._sessions: dict[str, SellerSession] = {}

    # --- jobs
    def generate(self, prompt: str, model: str, until: float, wishes: JobWishes) -> Flow[Track]:
        job, desk = yield from self._store(prompt, model, wishes)
        from x402_audio.jobs.advance import run_job

        return (yield from run_job(desk, job.id, until=until, chain=self._wiring.chain))

    def submit(self, prompt: str, model: str, wishes: JobWishes) -> Flow[JobRecord]:
        job, _ = yield from self._store(prompt, model, wishes)
        return job

    def resume(
        self, job_id: str, until: float, *, poll_interval: float | None = None, use_suggestion: bool = False,
        output: str | None = None, force: bool = False, wait_parked: bool = False,
    ) -> Flow[Track]:  # fmt: skip
        from x402_audio.jobs.advance import run_job

        ledger = self._wiring.ledger
        job = yield from call(lambda: ledger.job(job_id))
        self._check_mine(job)
        if use_suggestion:
            return (yield from self._resume_with_suggestion(job, until))
        changes = {
            "poll_interval": None if poll_interval is None else str(poll_interval),
            "output": None if output is None else str(Path(output).absolute()),
            "force": force or None,
        }
        desk = yield from self._change_options(job, {k: v for k, v in changes.items() if v is not None})
        return (
            yield from run_job(desk, job_id, until=until, chain=self._wiring.chain, wait_parked=wait_parked)
        )

    def work(
        self, until: float, *, poll_interval: float | None = None, until_idle: bool = False
    ) -> Flow[list[Outcome]]:
        """Advance every unfinished job of this wallet until all ended, or everything left is parked, or time is up.

        A job that waits for its seller is nothing here but a row with the time it is due: it is looked at then.
        """
        from x402_audio.jobs.advance import JOIN_EVERY_S

        outcomes: dict[str, Outcome] = {}
        rests: dict[str, tuple[float, float]] = {}  # job id → seconds, and until when (monotonic)
        clock = self._wiring.clock
        while True:
            jobs, later, first = yield from call(self._on_hand)
            alone = len(jobs) + later == 1 and not until_idle
            moved = False
            asked, approved = yield from call(self._asked_for)
            resting = {job_id for job_id, (_, end) in rests.items() if end > clock.monotonic()}
            turn = [job for job in _in_turn(jobs, outcomes, approved) if job.id not in resting]
            for job in turn:
                outcome = yield from self._work_one(job, until if alone else clock.monotonic(), poll_interval)
                if isinstance(outcome.error, JobTimedOut):
                    outcomes.pop(job.id, None)
                    continue
                track = outcome.track
                stuck = not _waits(outcome.error) if track is None else not track.completed
                moved = moved or track is not None or stuck
                if stuck:
                    rest = min(2 * rests.get(job.id, (LOOK_EVERY_S / 2, 0.0))[0], REST_MAX_S)
                    rests[job.id] = rest, clock.monotonic() + rest
                outcomes[job.id] = outcome
            if turn:
                jobs, later, first = yield from call(self._on_hand)
            parked = all(job.state == "parked" for job in jobs)
            idle = until_idle and parked and not later
            if not (jobs or later) or clock.monotonic() >= until or idle:
                return [*outcomes.values(), *(yield from call(lambda: self._not_ended(outcomes)))]
            if not later and all(
                job.parked_reason in ("human", "owner") and job.id not in asked for job in jobs
            ):
                return list(outcomes.values())
            pause = 0.05 if moved else LOOK_EVERY_S if parked else JOIN_EVERY_S
            if first is not None:
                pause = min(pause, max(0.0, first - clock.now()))
            yield from sleep(min(pause, max(0.0, until - clock.monotonic())))

    def _on_hand(self) -> tuple[list[JobRecord], int, float | None]:
        """Unfinished jobs that can be looked at now; how many only wait for their seller; when the first of those is due."""
        ledger, wallet, now = self._wiring.ledger, self._wiring.wallet, self._wiring.clock.now()
        return ledger.jobs(wallet=wallet, unfinished=True, due_by=now), *ledger.waiting(wallet, due_after=now)

    def _not_ended(self, known: Container[str]) -> list[Outcome]:
        """What is said of the jobs that go on without us."""
        from x402_audio.jobs.advance import timed_out
        from x402_audio.reports import Outcome

        jobs = self._wiring.ledger.jobs(wallet=self._wiring.wallet, unfinished=True, limit=1_000_000)
        left = [job for job in jobs if job.state != "parked" and job.id not in known]
        return [Outcome(job.id, None, timed_out(job)) for job in left]

    def _asked_for(self) -> tuple[set[str | None], set[str | None]]:
        """Jobs for which the owner's leave is asked or given, and those for which it is given."""
        ledger = self._wiring.ledger
        now, known = ledger.now(), ledger.approvals(states=("wanted", "granted"))
        approved = {one.job_id for one in known if (one.expires_at or 0) > now}
        return approved | {one.job_id for one in known if one.state == "wanted"}, approved

    def _work_one(self, job: JobRecord, until: float, poll_interval: float | None) -> Flow[Outcome]:
        from x402_audio.reports import Outcome

        try:
            track = yield from self.resume(job.id, until, poll_interval=poll_interval, wait_parked=True)
        except X402AudioError as error:
            return Outcome(job.id, None, error)
        return Outcome(job.id, track, None)

    def cancel(self, job_id: str) -> Flow[JobRecord]:
        """End a job that is not paid. Raises PaymentRefused when it is, PaymentUnsettled when nobody knows."""
        from x402_audio.jobs.advance import cancel_unpaid

        ledger = self._wiring.ledger
        job = yield from call(lambda: ledger.job(job_id))
        if job.state in ENDED_JOBS:
            return job
        holds = yield from call(lambda: ledger.holds(job_id=job_id, states=("signed",)))
        for hold in holds:
            raise PaymentUnsettled(
                f"{job_id} has a payment on its way ({hold.amount}); it cannot be called back",
                hold_id=hold.id, nonce=hold.nonce, valid_before=hold.valid_before,
            )  # fmt: skip
        if job.state in ("queued", "ready", "saved") or job.queue_id:
            raise PaymentRefused(
                f"{job_id} is paid and running; cancelling would only lose the track", money_moved="yes",
                owner="agent", next_step=f"x402-audio resume {job_id}",
            )  # fmt: skip
        desk = self._desk_of(job)
        return (yield from call(lambda: cancel_unpaid(desk, job)))

    # --- storing a job
    def _store(self, prompt: str, model: str, wishes: JobWishes) -> Flow[tuple[JobRecord, Desk]]:
        wiring, settings = self._wiring, self._wiring.settings
        _check_job_id(wishes.get("job_id"))
        audio = _audio(prompt, model, wishes)
        options = _options(wishes, loopback=self._session(settings.api_url).loopback)
        digest = audio.digest(seller=settings.api_url, wallet=wiring.wallet)
        job_id = wishes.get("job_id")
        ledger = wiring.ledger
        known = yield from self._known(job_id)
        if known is not None and _is_same(known, digest):
            return known, (yield from self._change_options(known, _given(options)))
        desk = yield from self._desk(settings.api_url, options)
        if known is None or known.digest == digest:
            try:
                yield from self._check(desk, audio, options, job_id or "track")
            except ConfigurationError:
                known = yield from self._known(job_id)
                if known is None or not _is_same(known, digest):
                    raise
                return known, desk  # the same job, asked for at the same time: the file in the way is its own
        alone = job_id is None and not wishes.get("again")
        if alone:
            waiting = yield from self._similar(digest)
            if waiting is not None:
                return waiting, (yield from self._change_options(waiting, _given(options)))
        if job_id is None:
            job_id = f"track-{wiring.random(6).hex()}"
        from x402_audio.jobs.advance import JOB_LIFE_S

        new = NewJob(
            id=job_id, digest=digest, wallet=wiring.wallet, network=wiring.network.caip2,
            environment=settings.environment, label=settings.label, provider=desk.provider.name,
            api_url=settings.api_url, origin=desk.session.origin, model=model, request=audio.canonical(),
            options=options.to_json(), deadline=wiring.clock.now() + JOB_LIFE_S,
        )  # fmt: skip
        within = SIMILAR_WITHIN_S if alone else None
        job, _ = yield from call(lambda: ledger.add_job(new, similar_within_s=within))
        if job.id != new.id:  # another program asked for the same a moment ago
            return (yield from self._store(prompt, model, wishes))
        return job, desk

    def _known(self, job_id: str | None) -> Flow[JobRecord | None]:
        if job_id is None:
            return None
        try:
            return (yield from call(lambda: self._wiring.ledger.job(job_id)))
        except UnknownJob:
            return None

    def _check(self, desk: Desk, audio: AudioRequest, options: JobOptions, job_id: str) -> Flow[None]:
        """Everything that can be refused before a job exists: model, request, limits written wrong, output place."""
        yield from self._keep_ours(options.output)
        specs = yield from desk.specs()
        spec = specs.get(audio.model)
        if specs and spec is None:
            from difflib import get_close_matches

            near = get_close_matches(audio.model, specs, n=3, cutoff=0.4) or sorted(specs)[:5]
            raise RequestInvalid(
                f"this seller has no model {audio.model!r}; it has {', '.join(near)}, …",
                field="model", value=audio.model, allowed=", ".join(sorted(specs)), next_step="see: x402-audio models",
            )  # fmt: skip
        if spec is not None:
            from x402_audio.providers.catalog import check_request

            check_request(audio, spec)
        from x402_audio.jobs.download import check_writable

        target = options.target(job_id, "audio/mpeg")
        yield from call(lambda: check_writable(target, force=options.force or options.output is None))

    def _similar(self, digest: str) -> Flow[JobRecord | None]:
        """An equal job that was refused before anything was bought is taken up; any other open one is named and refused."""
        wallet, ledger = self._wiring.wallet, self._wiring.ledger
        similar = yield from call(
            lambda: ledger.similar_open_job(digest, wallet, younger_than_s=SIMILAR_WITHIN_S)
        )
        if similar is None:
            return None
        holds = yield from call(
            lambda: ledger.holds(job_id=similar.id, states=("reserved", "signed", "settled", "presumed"))
        )
        bought = similar.queue_id or any(hold.kind != "topup" for hold in holds)
        if similar.state != "parked" or similar.parked_reason not in ("funds", "owner") or bought:
            raise OpenJobExists(
                f"the same request is already open as {similar.id} ({similar.state})", job_id=similar.id,
                next_step=f"x402-audio resume {similar.id}, or --again to buy it a second time",
            )  # fmt: skip
        return similar

    def _change_options(self, job: JobRecord, given: Mapping[str, object]) -> Flow[Desk]:
        """Take up what was said anew (a higher --max-price, another --output), while nobody works on the job."""
        desk = self._desk_of(job)
        if not given or job.state in ENDED_JOBS:
            return desk
        yield from self._keep_ours(given.get("output"))
        text = JobOptions.from_json(job.options).changed(given).to_json()
        if text == job.options:
            return desk
        from x402_audio.jobs.advance import change_options, knowing_job

        changed = yield from knowing_job(desk, job.id, call(lambda: change_options(desk, job, text)))
        return self._desk_of(changed)

    def _keep_ours(self, output: object) -> Flow[None]:
        """No track is ever put in the place of our books, keys or settings."""
        if output is not None:
            yield from call(lambda: check_not_ours(Path(str(output)), self._wiring.settings))

    def _resume_with_suggestion(self, job: JobRecord, until: float) -> Flow[Track]:
        kept = yield from call(lambda: self._wiring.ledger.recall(f"suggestion {job.id}"))
        if kept is None:
            raise RequestInvalid(
                f"the seller suggested no other wording for {job.id}",
                field="use_suggestion",
                value=True,
                allowed="no",
            )
        audio = asdict(replace(audio_of(job), prompt=kept[0]))
        prompt, model = audio.pop("prompt"), audio.pop("model")
        options = asdict(JobOptions.from_json(job.options))
        interval = options.pop("poll_interval")
        options.pop("folder")
        paced = {
            "job_id": f"{job.id}-suggested",
            "poll_interval": None if interval is None else float(interval),
        }
        return (
            yield from self.generate(prompt, model, until, cast(JobWishes, {**audio, **options, **paced}))
        )

    def _check_mine(self, job: JobRecord) -> None:
        if job.wallet.lower() != self._wiring.wallet.lower():
            raise ConfigurationError(
                f"{job.id} belongs to the wallet {job.wallet}, not to {self._wiring.wallet}",
                next_step="set that wallet's key, then: x402-audio resume",
            )

    # --- questions
    def quote(self, prompt: str, model: str, wishes: AudioWishes) -> Flow[QuoteReport]:
        from x402_audio.providers.prices import price_of
        from x402_audio.reports import QuoteReport

        desk = yield from self._desk(self._wiring.settings.api_url, JobOptions())
        audio = _audio(prompt, model, wishes)
        specs = yield from desk.specs()
        spec = specs.get(model)
        if specs and spec is None:
            raise RequestInvalid(
                f"this seller has no model {model!r}", field="model", value=model, allowed=", ".join(sorted(specs)),
                next_step="see: x402-audio models",
            )  # fmt: skip
        local = price_of(audio, spec) if spec is not None else None
        price, source = local, "local"
        ask = desk.provider.ask_quote(audio, spec)
        if ask is not None:
            answer = yield from desk.session.ask(ask)
            if answer.status == 200:
                price, source = desk.provider.read_quote(answer), "quote"
            elif desk.provider.billing != "direct" or answer.status not in (404, 405, 501):
                raise desk.provider.error_of(answer, "quote")
        needed = None if price is None else price + desk.provider.floor
        credit, would, warnings = yield from self._quote_credit(desk, needed)
        return QuoteReport(
            model, price, local, source if price is not None else "terms", needed, credit, would, warnings
        )

    def _quote_credit(
        self, desk: Desk, needed: Usdc | None
    ) -> Flow[tuple[Usdc | None, Usdc | None, tuple[str, ...]]]:
        if desk.account is None:
            return None, None, ()
        from x402_audio.jobs.gate import top_ups_on
        from x402_audio.payment.prepaid import trusted_credit

        try:
            reading = yield from trusted_credit(desk.account)
        except X402AudioError as error:
            return None, None, (error.message,)
        if needed is None or reading.available >= needed:
            return reading.available, None, ()
        missing = (needed - reading.available).ceil_to_cent()
        would = Usdc(max(missing, reading.minimum_top_up))
        off = (
            () if top_ups_on(desk, desk.limits) else ("automatic top-ups are off (MAX_TOP_UP, --max-top-up)",)
        )
        return reading.available, would, off

    def models(self) -> Flow[tuple[ModelSpec, ...]]:
        desk = yield from self._desk(self._wiring.settings.api_url, JobOptions())
        specs = yield from desk.specs()
        return tuple(specs.values())

    def seller(self) -> Flow[str]:
        session = self._session(self._wiring.settings.api_url)
        return (yield from self._wiring.seller_kind(session))

    def balance(self) -> Flow[BalanceReport]:
        from x402_audio.payment.prepaid import trusted_credit
        from x402_audio.reports import BalanceReport

        wiring = self._wiring
        desk = yield from self._desk(wiring.settings.api_url, JobOptions())
        warnings: list[str] = []
        on_chain = None
        if wiring.chain is not None and not wiring.on_account:
            chain = wiring.chain
            try:
                on_chain = yield from call(lambda: chain.usdc_balance(wiring.wallet))
            except ChainError as error:
                warnings.append(error.message)
        report = BalanceReport(
            seller=desk.provider.name, origin=desk.session.origin, wallet=wiring.wallet, credit=None, available=None,
            diem=None, trust=None, read_at=None, minimum_top_up=None, usdc_on_chain=on_chain, account=None,
            warnings=tuple(warnings),
        )  # fmt: skip
        if wiring.on_account:
            held = yield from wiring.account_balance(desk.session)
            return replace(report, account=held)
        if desk.account is None:
            return report
        reading = yield from trusted_credit(desk.account, fresh_s=0.0)
        return replace(
            report, credit=reading.balance, available=reading.available, diem=reading.diem, trust=reading.trust,
            read_at=reading.read_at, minimum_top_up=reading.minimum_top_up,
        )  # fmt: skip

    def top_up(self, amount: str, max_top_up: str | None) -> Flow[Hold]:
        """Buy credit by command; the command's amount is its own limit unless the owner set a smaller one."""
        from x402_audio.notify import unknown_payment
        from x402_audio.payment.books import knowing
        from x402_audio.payment.prepaid import TopUp, top_up, trusted_credit

        wished = _usd("amount", amount)
        options = JobOptions(max_top_up=max_top_up or wished.usd)
        desk = yield from self._desk(self._wiring.settings.api_url, options)
        if desk.account is None or desk.payer is None:
            raise ConfigurationError(
                f"{desk.session.origin} keeps no prepaid credit for this wallet",
                next_step="see: x402-audio balance",
            )
        yield from trusted_credit(desk.account, fresh_s=0.0)
        wish = TopUp(
            missing=wished, amount=wished, limits=(*desk.limits, *options.limits()), allowed=desk.top_ups_allowed,
            label=self._wiring.settings.label,
        )  # fmt: skip
        since, ledger = self._wiring.ledger.now(), self._wiring.ledger
        bought = top_up(desk.account, desk.payer, desk.policy(options, None), wish)
        try:
            return (
                yield from knowing(
                    bought, lambda: _top_ups(ledger, self._wiring.wallet, since), then="x402-audio reconcile"
                )
            )
        except X402AudioError as error:
            if error.money_moved == "unknown":
                self._wiring.tell(unknown_payment(error, f"a top-up of {wished}"))
            raise

    def transactions(self, limit: int, offset: int) -> Flow[TransactionPage]:
        desk = yield from self._desk(self._wiring.settings.api_url, JobOptions())
        if desk.account is None:
            raise ConfigurationError(f"{desk.session.origin} keeps no ledger for this wallet")
        account = desk.account
        answer = yield from desk.session.ask(
            account.seller.ask_transactions(account.wallet, limit=limit, offset=offset)
        )
        return account.seller.read_transactions(answer, account.wallet)

    def budget(self) -> Flow[list[Allowance]]:
        limits = self._wiring.settings.limits
        return (yield from call(lambda: self._wiring.ledger.allowances(limits)))

    def reconcile(self) -> Flow[ReconcileReport]:
        from x402_audio.jobs.settle import reconcile

        settings = self._wiring.settings
        urls = {settings.api_url}
        jobs = yield from call(lambda: self._wiring.ledger.jobs(wallet=self._wiring.wallet, unfinished=True))
        urls |= {job.api_url for job in jobs}
        desks = []
        for url in sorted(urls):
            desk = yield from self._desk(url, JobOptions())
            desks.append(desk)
        return (yield from reconcile(desks, self._wiring.wallet, self._wiring.chain))

    def inspect(self, url: str, method: str) -> Flow[InspectReport]:
        """One unsigned, unpaid request to a URL the user named."""
        from x402_audio.payment.inspect import inspect_answer

        parsed = httpx.URL(url)
        request = httpx.Request(
            method,
            parsed,
            headers={"accept": "application/json", "accept-encoding": "identity"},
            extensions={"timeout": httpx.Timeout(30.0).as_dict()},
        )
        try:
            response = yield from send(request)
        except httpx.TransportError as error:
            from x402_audio.payment.origin import origin_of
            from x402_audio.payment.session import unreachable

            raise unreachable(origin_of(parsed), error) from None
        policy = self._wiring.policy(JobOptions(), None)
        return inspect_answer(url, response.status_code, dict(response.headers), response.content, policy)

    # --- desks
    def _session(self, api_url: str) -> SellerSession:
        if api_url not in self._sessions:
            self._sessions[api_url] = self._wiring.session(api_url)
        return self._sessions[api_url]

    def _desk(self, api_url: str, options: JobOptions) -> Flow[Desk]:
        session = self._session(api_url)
        kind = yield from self._wiring.seller_kind(session)
        return self._wiring.desk(kind, session, options)

    def _desk_of(self, job: JobRecord) -> Desk:
        """The desk of a stored job: its own seller, whatever the settings name today."""
        session = self._session(job.api_url)
        options = JobOptions.from_json(job.options)
        return self._wiring.desk("direct" if job.provider == "direct" else "venice", session, options)


def _top_ups(ledger: Ledger, wallet: str, since: float) -> list[Hold]:
    """Top-ups of the wallet that are new or still open."""
    return [
        *(hold for hold in ledger.holds(wallet=wallet, kind="topup", states=tuple(LIVE)) if hold.created_at < since),
        *ledger.holds(wallet=wallet, kind="topup", made_after=since),
    ]  # fmt: skip


def _is_same(job: JobRecord, digest: str) -> bool:
    """The job that is asked for, alive or completed: nothing is made anew."""
    return job.digest == digest and (job.state not in ENDED_JOBS or job.state == "completed")


def _check_job_id(job_id: str | None) -> None:
    """Refuse an id that could not be shown in one line or be the name of a file."""
    if job_id is None or (
        0 < len(job_id) <= JOB_ID_CHARS_MAX and job_id.isprintable() and job_id == job_id.strip()
    ):
        return
    if len(job_id) > JOB_ID_CHARS_MAX:
        why = f"{len(job_id)} characters are too many"
    else:
        why = "it is empty, begins or ends with a space, or holds what cannot be printed"
    from x402_audio.jobs.download import shown

    allowed = f"1 to {JOB_ID_CHARS_MAX} printable characters"
    raise RequestInvalid(
        f"that is no job id: {why}", field="job_id", value=shown(Path(job_id)), allowed=allowed,
        next_step=f"choose a --job-id of {allowed}",
    )  # fmt: skip


def _in_turn(
    jobs: Sequence[JobRecord], seen: Mapping[str, Outcome], approved: Container[str | None]
) -> list[JobRecord]:
    """Who is looked at now. Of jobs that wait for the same credit the oldest (it has the first turn), and new ones.

    One that waits for its owner is looked at when its payment was approved, once unless it is asked for again.
    """
    from x402_audio.jobs.gate import PAID

    waiting: set[str] = set()
    chosen: list[JobRecord] = []
    for job in jobs:
        if job.parked_reason == "owner" and job.id in approved:
            if job.id not in seen or isinstance(seen[job.id].error, ApprovalWanted):
                chosen.append(job)
            continue
        if job.parked_reason in ("human", "owner"):
            continue
        if job.parked_reason == "funds" and job.resume_state not in PAID:
            if job.origin in waiting and job.id in seen:
                continue
            waiting.add(job.origin)
        chosen.append(job)
    return chosen


def _waits(error: X402AudioError | None) -> bool:
    return isinstance(error, (InsufficientBalance, PaymentUnsettled)) or error is None


def _audio(prompt: str, model: str, wishes: Mapping[str, object]) -> AudioRequest:
    asked = {name: value for name, value in wishes.items() if name in _AUDIO and value is not None}
    speed = asked.get("speed")
    if speed is not None:
        asked["speed"] = str(speed)
    return request_from({"prompt": prompt, "model": model, **asked})


def _options(wishes: JobWishes, *, loopback: bool) -> JobOptions:
    """The wishes as stored options; every figure is read here, before anything is sent."""
    for name in ("max_price", "max_top_up", "max_total"):
        if wishes.get(name) is not None:
            _usd(name, str(wishes.get(name)))
    payee = wishes.get("payee")
    if payee is not None:
        from x402_audio.protocol.address import checksum_address

        try:
            payee = checksum_address(payee)
        except ValueError as error:
            raise RequestInvalid(
                f"payee: {error}", field="payee", value=payee, allowed="0x and 40 hex digits"
            ) from None
    interval = wishes.get("poll_interval")
    if interval is not None and not (interval >= 2 or (loopback and interval > 0)):
        raise RequestInvalid(
            "poll_interval below 2 s is for loopback sellers only",
            field="poll_interval",
            value=interval,
            allowed="2 or more",
        )
    output = wishes.get("output")
    return JobOptions(
        output=None if output is None else str(Path(output).absolute()),
        folder=str(Path.cwd()),
        force=bool(wishes.get("force")),
        keep_remote=bool(wishes.get("keep_remote")),
        max_price=_text(wishes.get("max_price")),
        max_top_up=_text(wishes.get("max_top_up")),
        max_total=_text(wishes.get("max_total")),
        payee=payee,
        poll_interval=_text(interval),
    )


def _given(options: JobOptions) -> dict[str, object]:
    """Only what the caller said this time."""
    return {
        name: value
        for name, value in asdict(options).items()
        if value not in (None, False) and name != "folder"
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _usd(field: str, text: str) -> Usdc:
    try:
        amount = Usdc.parse_usd(text)
    except ValueError as error:
        raise RequestInvalid(
            f"{field}: {error}", field=field, value=text, allowed="US dollars like 0.75"
        ) from None
    if field == "amount" and amount <= ZERO:
        raise RequestInvalid(
            "amount must be above zero", field=field, value=text, allowed="US dollars like 5.00"
        )
    return amount


__all__ = ["AudioWishes", "JobWishes", "Unpack", "Verbs"]
