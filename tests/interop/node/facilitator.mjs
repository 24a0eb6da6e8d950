// A facilitator of npm's packages: x402 verifies and settles version 1, @x402/core with @x402/evm version 2, on the
// chain of RPC_URL with the gas of GAS_KEY.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const express = require("express");
const { x402Facilitator } = require("@x402/core/facilitator");
const { toFacilitatorEvmSigner } = require("@x402/evm");
const { registerExactEvmScheme } = require("@x402/evm/exact/facilitator");
const { createWalletClient, http, publicActions } = require("viem");
const { privateKeyToAccount } = require("viem/accounts");
const { base } = require("viem/chains");
const v1 = require("x402/facilitator");

const account = privateKeyToAccount(process.env.GAS_KEY);
const transport = http(process.env.RPC_URL);
const wallet = createWalletClient({ account, chain: base, transport, pollingInterval: 50 }).extend(publicActions);
const signer = toFacilitatorEvmSigner({ ...wallet, address: account.address });
const v2 = registerExactEvmScheme(new x402Facilitator(), { signer, networks: "eip155:8453" });

const answer = (verb) => (request, response, next) => {
  const { paymentPayload, paymentRequirements } = request.body;
  const own = paymentPayload.x402Version === 1 ? v1[verb].bind(null, wallet) : v2[verb].bind(v2);
  own(paymentPayload, paymentRequirements).then((told) => response.json(told), next);
};

const facilitator = express().use(express.json());
facilitator.get("/supported", (_, response) => response.json(v2.getSupported()));
facilitator.post("/verify", answer("verify"));
facilitator.post("/settle", answer("settle"));
const listener = facilitator.listen(0, "127.0.0.1", () => console.log(`listening on ${listener.address().port}`));
