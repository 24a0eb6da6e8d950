"""The audio routes that every kind of seller has: models, quote, retrieve, complete; and reading their bodies.

Asks for no payment and no sign-in: who may call is decided before.
"""

from __future__ import annotations

from x402_audio.jsontext import Json, read_json_object
from x402_audio.money import Usdc
from x402_audio.sandbox.answers import BODY_BYTES_MAX, Answer, Refusal, Request, json_answer
from x402_audio.sandbox.audio import CONTENT_TYPES, make_audio
from x402_audio.sandbox.books import Account, Job
from x402_audio.sandbox.catalog import BadRequest, Order, UnknownModel
from x402_audio.sandbox.seller import SandboxSeller


def read_body(request: Request) -> dict[str, Json]:
    """The JSON object of a request. Raises Refusal with 400."""
    if request.header("content-type").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(bad_request("_errors", "Content-Type must be application/json"))
    try:
        return read_json_object(request.body, bytes_max=BODY_BYTES_MAX)
    except ValueError as error:
        raise Refusal(bad_request("_errors", "Invalid JSON")) from error


def bad_request(field: str, text: str) -> Answer:
    details: dict[str, object] = {"_errors": [text] if field == "_errors" else []}
    if field != "_errors":
        details[field] = {"_errors": [text]}
    return json_answer(400, {"error": "Invalid request parameters", "details": details})


def queue_answer(job: Job) -> dict[str, object]:
    return {"model": job.order.model, "queue_id": job.queue_id, "status": "QUEUED"}


def refused_content(job: Job) -> Answer:
    text = "Your prompt violates the content policy of Venice.ai or the model provider"
    return json_answer(422, {"error": text, "suggested_prompt": job.suggestion})


class AudioRoutes:
    """Models, prices and jobs of one seller."""

    def __init__(self, seller: SandboxSeller) -> None:
        self._seller = seller

    def models(self, request: Request) -> Answer:
        kind = request.query.get("type", "music")
        if kind not in ("music", "all"):
            return json_answer(200, {"object": "list", "type": kind, "data": []})
        return json_answer(200, self._seller.catalog.listing)

    def quote(self, request: Request) -> Answer:
        body = read_body(request)
        return json_answer(200, {"quote": self._checked_quote(body)})

    def order(self, body: dict[str, Json]) -> Order:
        """The checked order of a queue request. Raises Refusal: 400, 404."""
        try:
            return self._seller.catalog.order(body)
        except BadRequest as error:
            raise Refusal(bad_request(error.field, error.text)) from error
        except UnknownModel as error:
            raise Refusal(json_answer(404, {"error": "Specified model not found"})) from error

    def _checked_quote(self, body: dict[str, Json]) -> Usdc:
        try:
            return self._seller.catalog.quote(body)
        except BadRequest as error:
            raise Refusal(bad_request(error.field, error.text)) from error
        except UnknownModel as error:
            raise Refusal(json_answer(404, {"error": "Specified model not found"})) from error

    def retrieve(self, request: Request, owner: Account | None) -> Answer:
        """The state of a job, or its bytes."""
        body = read_body(request)
        with self._seller.lock:
            job = self._job(body, owner, {"model", "queue_id", "delete_media_on_completion"})
            self._seller.advance()
            self._strike(request, job)
            if job.state == "processing":
                return self._processing(job)
            if job.state in ("completed", "expired"):
                return json_answer(404, {"error": "Media not found or expired"})
            if job.state == "failed":
                return json_answer(500, {"error": "Inference processing failed"})
            if job.state == "refused":
                return refused_content(job)
            job.retrieved += 1
            if body.get("delete_media_on_completion") is True:
                job.state = "completed"
        return self._media(job)

    def complete(self, request: Request, owner: Account | None) -> Answer:
        """Forget the media of a finished job."""
        body = read_body(request)
        with self._seller.lock:
            job = self._job(body, owner, {"model", "queue_id"})
            self._seller.advance()
            if job.state in ("completed", "expired"):
                return json_answer(404, {"error": "Media not found or expired"})
            if job.state != "ready":
                return json_answer(200, {"success": False})
            job.state = "completed"
            return json_answer(200, {"success": True})

    def _job(self, body: dict[str, Json], owner: Account | None, known: set[str]) -> Job:
        for name in sorted(set(body) - known):
            raise Refusal(bad_request(name, "Unrecognized key"))
        for name in ("model", "queue_id"):
            if not isinstance(body.get(name), str):
                raise Refusal(bad_request(name, "Required"))
        job = self._seller.jobs.get(str(body["queue_id"]))
        if job is None or job.order.model != body["model"] or job.owner != (owner.name if owner else ""):
            raise Refusal(json_answer(400, {"error": "Request ID is invalid."}))
        return job

    def _strike(self, request: Request, job: Job) -> None:
        """Faults ordered for this very poll."""
        faults = request.faults
        if "fail_job" in faults:
            self._seller.end_job(job, "fail")
        elif "charge_without_delivery" in faults:
            self._seller.end_job(job, "fail_unrefunded")
        elif "refuse_content" in faults:
            value = faults["refuse_content"]
            self._seller.end_job(
                job, "refuse", value if isinstance(value, str) else "A calm instrumental piece"
            )
        elif "expire_media" in faults:
            self._seller.end_job(job, "expire")

    def _processing(self, job: Job) -> Answer:
        running = int(max(0.0, self._seller.now() - job.opened_at) * 1000)
        return json_answer(200, {
            "status": "PROCESSING",
            "average_execution_time": int(self._seller.job_seconds * 1000),
            "execution_duration": running,
        })  # fmt: skip

    def _media(self, job: Job) -> Answer:
        order = job.order
        headers = [
            ("x-venice-audio-format", order.audio_format),
            ("x-venice-inference-time", format(job.ready_at - job.opened_at, ".3f")),
            ("x-venice-model-id", order.model),
            ("x-venice-model-name", order.name),
        ]
        if order.model.startswith("seed-audio"):
            headers += [("x-venice-audio-duration", str(order.seconds)), ("x-venice-audio-subtitle", "")]
        data = make_audio(order.audio_format, order.seconds, job.queue_id)
        return Answer(200, data, tuple(headers), CONTENT_TYPES[order.audio_format])
