// Ingests an event and prints what it changed: example.ts [HOST:PORT [USER]].
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BadRequestSchema, ErrorInfoSchema } from "./generated/google/rpc/error_details_pb.js";
import type { Effects } from "./generated/laurel/ledger/v1/effects_pb.js";
import { IngestEventRequestSchema } from "./generated/laurel/orchestrator/v1/event_pb.js";
import { OrchestratorService } from "./generated/laurel/orchestrator/v1/orchestrator_service_pb.js";

const MAX_ATTEMPTS = 5;
const FIRST_BACKOFF_MILLISECONDS = 100;

const [target = "127.0.0.1:7400", userId = "carol"] = process.argv.slice(2);

// The key of a system that asks for one, as `laurel keys create` prints it.
const key = process.env["LAUREL_API_KEY"];
const showKey: Interceptor = (next) => (request) => {
  if (key) request.header.set("authorization", `Bearer ${key}`);
  return next(request);
};

// Whose certificates to believe; nothing is encrypted where that is not said.
const authority = process.env["LAUREL_TLS_CA_FILE"];

const laurel = createClient(
  OrchestratorService,
  createGrpcTransport({
    baseUrl: `${authority ? "https" : "http"}://${target}`,
    ...(authority ? { nodeOptions: { ca: readFileSync(authority) } } : {}),
    defaultTimeoutMs: 10_000,
    interceptors: [showKey],
  }),
);

// Sends a call again while the service is unavailable: nothing definite was decided, and the key makes a second
// arrival harmless. Anything else is an answer.
async function retried<Response>(call: () => Promise<Response>): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unavailable || attempt === MAX_ATTEMPTS) throw error;
      await setTimeout(Math.random() * FIRST_BACKOFF_MILLISECONDS * 2 ** attempt);
    }
  }
}

function show(effects?: Effects): void {
  for (const { state, extended } of effects?.streaks ?? []) {
    console.log(`  streak       ${state?.streak}: ${state?.length}${extended ? " (extended)" : ""}`);
  }
  for (const { name } of effects?.achievements ?? []) {
    console.log(`  achievement  ${name}`);
  }
  for (const { pointsSystem, added, balance } of effects?.points ?? []) {
    console.log(`  points       ${pointsSystem}: ${added < 0n ? "" : "+"}${added} = ${balance}`);
  }
  for (const { leaderboard, rank, score } of effects?.leaderboards ?? []) {
    console.log(`  leaderboard  ${leaderboard}: rank ${rank}, score ${score}`);
  }
}

// The parts of an error: decide by code, reason and domain; the message is for people.
function showRefusal(error: unknown): void {
  const refusal = ConnectError.from(error);
  for (const { reason, domain } of refusal.findDetails(ErrorInfoSchema)) {
    console.log(`refused: ${reason} by ${domain}: ${refusal.rawMessage}`);
  }
  for (const { fieldViolations } of refusal.findDetails(BadRequestSchema)) {
    for (const { field, description } of fieldViolations) {
      console.log(`  ${field}: ${description}`);
    }
  }
}

// The key is drawn once for the event, so that every attempt has it.
const event = create(IngestEventRequestSchema, {
  user: { userId, timeZone: "Europe/Rome" },
  metric: "commits",
  value: 1,
  idempotencyKey: randomUUID(),
});
const reply = await retried(() => laurel.ingestEvent(event));
console.log(`${reply.metric}: ${reply.totalBefore} -> ${reply.totalAfter}`);
show(reply.effects);

const again = await retried(() => laurel.ingestEvent(event));
const outcome = again.idempotentReplayed ? "replayed" : "counted twice";
console.log(`the same key again: ${outcome}, total ${again.totalAfter}`);

await laurel.ingestEvent({ user: { userId }, metric: "no-such-metric", value: 1 }).catch(showRefusal);
await laurel.ingestEvent({ metric: "commits" }).catch(showRefusal);
