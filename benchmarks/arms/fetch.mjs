// What npm's two buyers spend on a paid call beside bare fetch: node fetch.mjs x402-fetch|@x402/fetch URL ROUNDS CALLS.
// Processor time of this process; one JSON list of rounds on stdout. Started in the folder that holds node_modules.
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "here.js"));
const { privateKeyToAccount } = require("viem/accounts");
const [which, url, rounds, calls] = process.argv.slice(2);
const key = `0x${"5a".repeat(32)}`;
const body = JSON.stringify({ model: "elevenlabs-music", prompt: "warm indie folk", duration_seconds: 60 });
const post = (paying, headers) => paying(url, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body });

async function buyer() {
  if (which === "x402-fetch") {
    const { createSigner, wrapFetchWithPayment } = require("x402-fetch");
    return wrapFetchWithPayment(fetch, await createSigner("base", key), 1_000_000n);
  }
  const { wrapFetchWithPaymentFromConfig } = require("@x402/fetch");
  const { ExactEvmScheme } = require("@x402/evm");
  const client = new ExactEvmScheme(privateKeyToAccount(key));
  return wrapFetchWithPaymentFromConfig(fetch, { schemes: [{ network: "eip155:8453", client }] });
}

const paying = await buyer();
async function answered(response, status) {
  if (response.status !== status) throw new Error(`answered ${response.status}`);
  await response.text();
}
async function floor() {
  await answered(await post(fetch, {}), 402);
  await answered(await post(fetch, { "PAYMENT-SIGNATURE": "x".repeat(900) }), 200);
}
async function paid() {
  await answered(await post(paying, {}), 200);
}
async function burst(act) {
  const before = process.cpuUsage();
  for (let call = 0; call < Number(calls); call += 1) await act();
  const spent = process.cpuUsage(before);
  return (spent.user + spent.system) / Number(calls);
}
await burst(floor);
await burst(paid);
const found = [];
for (let round = 0; round < Number(rounds); round += 1) found.push({ floor: await burst(floor), sdk: await burst(paid) });
console.log(JSON.stringify(found));
process.exit(0);
