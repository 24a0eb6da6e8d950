"""What really happened to our money, from the seller's memory and the chain alone. Never asks our own books."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.sellers import Door
from tests.simulation.timeline import Timeline
from x402_audio.sandbox.books import Job


@dataclass(frozen=True, slots=True)
class Truth:
    """The seller's side of each authorization and each sign-in. Amounts in atomic units."""

    door: Door
    timeline: Timeline
    wallet: str

    def used(self, nonce: str) -> bool:
        """The authorization moved money on the chain."""
        chain = self.door.seller.chain
        return chain.nonce_used(self.wallet, nonce, chain.height())

    def live(self, nonce: str, valid_before: int) -> bool:
        """It has not moved money and still may."""
        return not self.used(nonce) and self.timeline.at < valid_before

    def job_of(self, nonce: str) -> Job | None:
        """The seller's job that an authorization or a sign-in bought."""
        seller = self.door.seller
        payment = seller.payments.get((self.wallet.lower(), nonce.lower()))
        if payment is not None:
            return seller.jobs.get(payment.queue_id)
        return seller._job_of_sign_in.get((self.wallet.lower(), nonce))

    def stands(self, nonce: str) -> bool:
        """Money is gone for it and was not wholly given back."""
        job = self.job_of(nonce)
        if job is not None and job.charge == "end" and job.state == "processing":
            return True
        if job is not None:
            return job.charged > job.refunded
        return self.used(nonce)

    def departed(self) -> dict[str, int]:
        """Every nonce that moved USDC out of our wallet, and how much."""
        moved = self.door.seller.chain.transfers
        return {one.nonce: one.value for one in moved if one.payer.lower() == self.wallet.lower()}

    def foreign_charges(self, since: float, taken: frozenset[str]) -> int:
        """Charges at the seller since then that no job of its own explains: another program's.

        taken: requests our books took for a lost draw of their own, as the recovery rules have it (one charge of that
        model, at most the quote).
        """
        rows = self.door.seller.account(self.wallet).rows
        return -sum(
            int(row.amount)
            for row in rows
            if row.type == "CHARGE"
            and row.at >= since
            and row.request_id not in self.door.seller.jobs
            and row.request_id not in taken
        )
