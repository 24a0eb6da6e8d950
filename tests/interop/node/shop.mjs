// An audio shop as anybody builds one with Express, twice: with x402-express (v1) and with @x402/express (v2).
// The path says which, and on which port its facilitator listens: /v2/4022/api/v1/audio/queue. Environment: PAY_TO,
// PRICE ("$0.25"), TIMEOUT_MS for the facilitator, SOUND (a file, every customer's track). A prompt that says "fails 5
// times" makes the shop itself fail so often, each time after the payment was checked and before it is settled.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const express = require("express");
const { paymentMiddleware: tillV1 } = require("x402-express");
const { HTTPFacilitatorClient, x402ResourceServer } = require("@x402/core/server");
const { paymentMiddleware: tillV2 } = require("@x402/express");
const { ExactEvmScheme } = require("@x402/evm/exact/server");

const { PAY_TO, PRICE, SOUND, TIMEOUT_MS } = process.env;
const timeoutMs = Number(TIMEOUT_MS);

// x402-express waits for its facilitator without an end; a shop that does not want to wait bounds its own fetch.
const unbounded = globalThis.fetch;
globalThis.fetch = (url, init) => unbounded(url, { signal: AbortSignal.timeout(timeoutMs), ...init });

const makers = {
  v1: (route, url) => tillV1(PAY_TO, { [route]: { price: PRICE, network: "base" } }, { url }),
  v2: (route, url) => {
    const server = new x402ResourceServer(new HTTPFacilitatorClient({ url, timeoutMs }));
    server.register("eip155:8453", new ExactEvmScheme());
    const accepts = { scheme: "exact", price: PRICE, network: "eip155:8453", payTo: PAY_TO };
    return tillV2({ [route]: { accepts, description: "one track" } }, server);
  },
};
const tills = new Map();

function till(request, response, next) {
  const { version, port } = request.params;
  if (!tills.has(request.path)) {
    tills.set(request.path, makers[version](`POST ${request.path}`, `http://127.0.0.1:${port}`));
  }
  return tills.get(request.path)(request, response, next);
}

const jobs = new Map();
const failures = new Map();

function fails({ path, body }) {
  const key = `${path} ${body.prompt}`;
  const left = failures.get(key) ?? Number(/fails (\d+) times/.exec(body.prompt)?.[1] ?? 0);
  failures.set(key, left - 1);
  return left > 0;
}

const shop = express();
shop.post("/:version(v1|v2)/:port/api/v1/audio/queue", till, express.json(), (request, response) => {
  if (fails(request)) return response.status(500).json({ error: "Internal Server Error" });
  const job = { queue_id: randomUUID(), model: request.body.model, path: request.path };
  jobs.set(job.queue_id, job);
  return response.json({ model: job.model, queue_id: job.queue_id, status: "QUEUED" });
});
shop.post("/:version(v1|v2)/:port/api/v1/audio/retrieve", express.json(), (request, response) => {
  if (jobs.has(request.body.queue_id)) response.sendFile(SOUND);
  else response.status(404).json({ error: "Media not found or expired" });
});
shop.get("/jobs", (_, response) => response.json([...jobs.values()]));

const listener = shop.listen(0, "127.0.0.1", () => console.log(`listening on ${listener.address().port}`));
