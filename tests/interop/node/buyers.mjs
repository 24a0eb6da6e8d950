// Three buyers of other people's making: x402-fetch (v1), @x402/fetch (v2), and @x402/fetch when it is offered v1.
// Then the two packages buy once more, for what the seller has been told to decline. Arguments: a v1 and a v2
// seller's API URL, a private key. Says what each was answered as one JSON object.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { createSigner, decodeXPaymentResponse, wrapFetchWithPayment } = require("x402-fetch");
const { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } = require("@x402/fetch");
const { ExactEvmScheme } = require("@x402/evm");
const { ExactEvmSchemeV1 } = require("@x402/evm/v1");
const { privateKeyToAccount } = require("viem/accounts");

const [v1, v2, key] = process.argv.slice(2);
const account = privateKeyToAccount(key);
const fetchV1 = wrapFetchWithPayment(fetch, await createSigner("base", key), 1_000_000n);
const fetchV2 = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [
    { network: "eip155:8453", client: new ExactEvmScheme(account) },
    { network: "base", x402Version: 1, client: new ExactEvmSchemeV1(account) },
  ],
});

async function buy(paying, seller, header, decode) {
  const answer = await paying(`${seller}/audio/queue`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model: "elevenlabs-music", prompt: "Warm indie folk, 120 BPM", duration_seconds: 3 }),
  });
  return { status: answer.status, body: await answer.json(), settlement: decode(answer.headers.get(header)) };
}

const bought = {
  "x402-fetch": await buy(fetchV1, v1, "x-payment-response", decodeXPaymentResponse),
  "@x402/fetch offered v1": await buy(fetchV2, v1, "x-payment-response", decodePaymentResponseHeader),
  "@x402/fetch": await buy(fetchV2, v2, "payment-response", decodePaymentResponseHeader),
};
const declined = {
  "x402-fetch": await buy(fetchV1, v1, "x-payment-response", decodeXPaymentResponse),
  "@x402/fetch": await buy(fetchV2, v2, "payment-response", decodePaymentResponseHeader),
};
console.log(JSON.stringify({ bought, declined }));
