// Plays scenario.json against a kinesis-local by the AWS SDK for JavaScript v3. Fails on the first
// answer that is not as it has to be, and if the SDK has an operation that no step calls. Steps
// that this version of the SDK has no operation for are left out.
//
//     node sdk.mjs MODULES ENDPOINT

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";

const [modules, endpoint] = process.argv.slice(2);
const load = createRequire(`${resolve(modules)}/`);
const sdk = load("@aws-sdk/client-kinesis");
const version = load("@aws-sdk/client-kinesis/package.json").version;
const LOOKS = 600; // at 0.1 s: how long an `until` waits

const client = new sdk.KinesisClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
  maxAttempts: 1,
});
const operations = new Set(
  Object.keys(sdk).filter((name) => name.endsWith("Command") && name !== "$Command").map((name) => name.slice(0, -7)),
);
const saved = {};
const played = new Set();
const { steps } = JSON.parse(readFileSync(new URL("scenario.json", import.meta.url)));

for (const [number, step] of steps.entries()) {
  const wanted = step.op ?? step.needs;
  if (wanted && (!operations.has(wanted) || needsUnsaved(step))) {
    continue;
  }
  try {
    await play(step);
    played.add(step.op);
  } catch (error) {
    console.error(`step ${number}, ${JSON.stringify(step)}:`, error);
    process.exit(1);
  }
}
const missed = [...operations].filter((operation) => !played.has(operation));
if (missed.length > 0) {
  console.error(`no step calls ${missed}`);
  process.exit(1);
}
console.log(`@aws-sdk/client-kinesis ${version}: ${operations.size} operations, ${steps.length} steps`);
client.destroy();

/** Whether a step is about something that an operation that the SDK lacks would have made. */
function needsUnsaved(step) {
  const names = [...JSON.stringify(step.in ?? {}).matchAll(/"\$(\w+)"/g)].map((match) => match[1]);
  return names.some((name) => name !== "bytes" && !(name in saved));
}

async function play(step) {
  if (step.pass_ms !== undefined) {
    const body = JSON.stringify({ advance_ms: step.pass_ms });
    const passed = await fetch(`${endpoint}/_local/time`, { method: "POST", body });
    if (!passed.ok) throw new Error(await passed.text());
    return;
  }
  if (step.http !== undefined) {
    let text = "";
    for (let look = 0; look < LOOKS; look++) {
      const answer = await fetch(endpoint + step.path, { method: step.http });
      text = await answer.text();
      if (!answer.ok) throw new Error(text);
      if (text.includes(step.until ?? "")) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`never came: ${step.until} in ${text}`);
  }
  let answer;
  try {
    answer = await client.send(new sdk[`${step.op}Command`](given(step.in)));
    if (step.events !== undefined) answer = await events(answer, step.events);
  } catch (error) {
    if (error.name === step.error) return;
    throw error;
  }
  if (step.error !== undefined) throw new Error(`was answered: ${JSON.stringify(answer)}`);
  for (const [path, expected] of Object.entries(step.is ?? {})) {
    const found = at(answer, path);
    if (!isDeepStrictEqual(found, given(expected))) throw new Error(`${path} is ${JSON.stringify(found)}`);
  }
  for (const [name, path] of Object.entries(step.save ?? {})) saved[name] = at(answer, path);
}

async function events(answer, most) {
  const found = [];
  for await (const event of answer.EventStream) {
    found.push(event.SubscribeToShardEvent);
    if (found.length === most) break;
  }
  return { Events: found };
}

function given(value) {
  if (typeof value === "string" && value.startsWith("$")) return saved[value.slice(1)];
  if (Array.isArray(value)) return value.map(given);
  if (value !== null && typeof value === "object") {
    if ("$bytes" in value) return new TextEncoder().encode(value.$bytes);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, given(item)]));
  }
  return value;
}

function at(answer, path) {
  for (const part of path.split(".")) {
    answer = part === "#" ? (answer ?? []).length : answer?.[part];
  }
  if (answer instanceof Uint8Array) return new TextDecoder().decode(answer);
  if (answer instanceof Date) return answer.getTime();
  return answer ?? null;
}
