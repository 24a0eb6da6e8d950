// The vendor's own client buys one track: refused without credit, topped up, queued, fetched, completed.
// Then a second wallet lets it top up by itself. Arguments: the seller's origin, two private keys, the model, where
// the track goes. Says what it saw as one JSON object.
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";

const require = createRequire(import.meta.url);
const { VeniceClient } = require("venice-x402-client");

const [origin, key, careless, model, file] = process.argv.slice(2);
const venice = new VeniceClient(key, { apiUrl: origin });
const order = { model, prompt: "Warm indie folk, 120 BPM", duration_seconds: 60 };
const seen = { wallet: venice.address };

seen.models = (await venice.models()).data.map((entry) => entry.id);
seen.before = await venice.getBalance();
seen.refused = await venice.audio.queue(order).then(
  () => null,
  (error) => ({ code: error.code, ...error.details }),
);
await venice.topUp(5);
seen.shown = venice.balance;
seen.toppedUp = await venice.getBalance();

seen.queued = await venice.audio.queue(order);
const job = { model, queue_id: seen.queued.queue_id };
let track = await venice.audio.retrieve(job);
seen.first = track instanceof Blob ? null : track;
while (!(track instanceof Blob)) {
  await pause(100);
  track = await venice.audio.retrieve(job);
}
await writeFile(file, Buffer.from(await track.arrayBuffer()));
seen.type = track.type;
seen.completed = await venice.audio.complete(job);
seen.gone = await venice.audio.retrieve(job).then(
  () => null,
  (error) => error.details,
);
seen.after = await venice.getBalance();
seen.transactions = (await venice.getTransactions({ limit: 10 })).transactions;

const spender = new VeniceClient(careless, { apiUrl: origin, autoTopUp: { enabled: true, amount: 6 } });
seen.spender = spender.address;
seen.spent = await spender.audio.queue(order);
console.log(JSON.stringify(seen));
