// Runs the conformance vectors against a server:
//
//     npm run conformance -- localhost:50051 [FOLDER]

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { Assembly, definition, isServiceError, refusalOf } from "./lossd.js";
import { decode, encode, isFloat, type Numbers } from "./tensors.js";
import type { StreamLossResponse__Output } from "./generated/lossd/v1/StreamLossResponse.js";

interface Encoding {
  dtype: string;
  values: (number | string | boolean)[];
  data: string;
}

interface Refused {
  code: string;
  reason: string;
  fields: string[];
  metadata: Record<string, string>;
}

interface Vector {
  name: string;
  method: string;
  requests: string;
  replies: string | null;
  relative: number;
  absolute: number;
  refused: Refused | null;
}

type Method = grpc.MethodDefinition<object, object>;
type Ended = grpc.ServiceError | null;

const [address = "localhost:50051", folder = fileURLToPath(new URL("../../../../conformance", import.meta.url))] =
  process.argv.slice(2);
const index = JSON.parse(readFileSync(join(folder, "vectors.json"), "utf8"));
const ignored = new Set<string>(index.ignored_fields);
const client = new grpc.Client(address, grpc.credentials.createInsecure());

// ------------------------------------------------------------------ encodings

function encodingFault({ dtype, values, data }: Encoding): string {
  const numbers: Numbers = values.map((value) =>
    typeof value !== "string" ? value : isFloat(dtype) ? Number(value) : BigInt(value),
  );
  const written = encode(dtype, numbers).toString("hex");
  if (written !== data) return `bytes must be ${data}, got ${written}`;
  const tensor = { dtype, shape: [String(values.length)], data: Buffer.from(data, "hex") };
  const read = decode(tensor as Parameters<typeof decode>[0]);
  const wrong = read.findIndex((value, place) => !sameNumber(value, numbers[place]!));
  return wrong < 0 ? "" : `number must be ${numbers[wrong]}, got ${read[wrong]}`;
}

function sameNumber(one: number | bigint | boolean, other: number | bigint | boolean): boolean {
  return typeof one === "bigint" ? one === BigInt(other) : Object.is(one, other);
}

// ------------------------------------------------------------------ calls

async function vectorFault(vector: Vector): Promise<string> {
  const [service, name] = vector.method.split("/") as [string, string];
  const method = (definition[service] as grpc.ServiceDefinition)[name] as Method;
  const requests = delimited(vector.requests).map(method.requestDeserialize);
  const isConversation = method.requestStream && method.responseStream;
  const reply = isConversation ? computeLossReply : method.responseDeserialize;
  const wanted = delimited(vector.replies).map(reply);
  const { replies, ended } = isConversation
    ? await converse(method, requests)
    : await ask(method, requests);
  const said = endFault(vector.refused, ended);
  if (said) return said;
  if (replies.length !== wanted.length) return `replies must be ${wanted.length}, got ${replies.length}`;
  for (const [place, message] of wanted.entries()) {
    const found = difference(message, replies[place], "reply", vector);
    if (found) return found;
  }
  return "";
}

function computeLossReply(data: Buffer): object {
  return (definition["lossd.v1.LossService"] as grpc.ServiceDefinition)["ComputeLoss"]!.responseDeserialize(data);
}

// Returns the messages of a file, each of which follows its length as a varint.
function delimited(path: string | null): Buffer[] {
  const found: Buffer[] = [];
  const data = path === null ? Buffer.alloc(0) : readFileSync(join(folder, path));
  for (let at = 0; at < data.length; ) {
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = data[at++]!;
      size |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    found.push(data.subarray(at, at + size));
    at += size;
  }
  return found;
}

// A call that is answered once, whether it sends one message or many.
function ask(method: Method, requests: object[]): Promise<{ replies: object[]; ended: Ended }> {
  return new Promise((resolve) => {
    const done = (error: Ended, reply?: object) => resolve({ replies: reply ? [reply] : [], ended: error });
    const how = [method.path, method.requestSerialize, method.responseDeserialize] as const;
    const options = { deadline: Date.now() + 30_000 };
    if (!method.requestStream) {
      client.makeUnaryRequest(...how, requests[0]!, options, done);
      return;
    }
    const call = client.makeClientStreamRequest(...how, options, done);
    requests.forEach((request) => call.write(request));
    call.end();
  });
}

async function converse(method: Method, requests: object[]): Promise<{ replies: object[]; ended: Ended }> {
  const how = [method.path, method.requestSerialize, method.responseDeserialize] as const;
  const call = client.makeBidiStreamRequest(...how, { deadline: Date.now() + 30_000 });
  requests.forEach((request) => call.write(request));
  call.end();
  const assembly = new Assembly();
  let ended: Ended = null;
  try {
    for await (const part of call) assembly.take(part as StreamLossResponse__Output);
    assembly.results.length && assembly.result();
  } catch (error) {
    if (!isServiceError(error)) throw error;
    ended = error;
  }
  return { replies: assembly.results, ended };
}

// ------------------------------------------------------------------ comparing

function endFault(refused: Refused | null, ended: Ended): string {
  if (!refused || !ended) {
    const [wanted, got] = [refused?.code ?? "OK", ended ? refusalOf(ended).code : "OK"];
    return wanted === got ? "" : `status must be ${wanted}, got ${got}: ${ended?.details ?? ""}`;
  }
  const said = refusalOf(ended);
  const metadata = Object.entries(refused.metadata).map(([name]) => [name, said.metadata[name]]);
  const found = { ...said, metadata: Object.fromEntries(metadata) };
  for (const [name, value] of Object.entries({ domain: "lossd", ...refused })) {
    const got = JSON.stringify(found[name as keyof typeof found]);
    if (got !== JSON.stringify(value)) return `${name} must be ${JSON.stringify(value)}, got ${got}`;
  }
  return "";
}

function difference(wanted: any, found: any, path: string, within: Vector): string {
  if (typeof wanted !== typeof found) return `${path} must be ${show(wanted)}, got ${show(found)}`;
  if (typeof wanted === "number") {
    return isNear(wanted, found, within) ? "" : `${path} must be ${wanted}, got ${found}`;
  }
  if (wanted === null || typeof wanted !== "object") {
    return wanted === found ? "" : `${path} must be ${show(wanted)}, got ${show(found)}`;
  }
  if (Buffer.isBuffer(wanted)) return wanted.equals(found) ? "" : `${path} must be other bytes`;
  if ("dtype" in wanted) return tensorDifference(wanted, found, path, within);
  const names = new Set([...Object.keys(wanted), ...Object.keys(found)]);
  for (const name of names) {
    if (ignored.has(name)) continue;
    const said = difference(wanted[name], found[name], `${path}.${name}`, within);
    if (said) return said;
  }
  return "";
}

function tensorDifference(wanted: any, found: any, path: string, within: Vector): string {
  const kinds = [wanted, found].map((tensor) => `${tensor.dtype} of [${tensor.shape ?? []}]`);
  if (kinds[0] !== kinds[1]) return `${path} must be ${kinds[0]}, got ${kinds[1]}`;
  const [right, got] = [decode(wanted), decode(found)];
  const isRight = (value: any, place: number) =>
    isFloat(wanted.dtype) ? isNear(value, got[place] as number, within) : value === got[place];
  return right.every(isRight) ? "" : `${path} must be ${right}, got ${got}`;
}

function isNear(wanted: number, found: number, { relative, absolute }: Vector): boolean {
  if (Object.is(wanted, found) || wanted === found) return true;
  return Math.abs(found - wanted) <= absolute + relative * Math.abs(wanted);
}

function show(value: unknown): string {
  return value === undefined ? "unset" : JSON.stringify(value);
}

// ------------------------------------------------------------------ verdict

const verdicts: [string, string][] = index.encodings.map((one: Encoding) => [
  `encoding of ${one.dtype}`,
  encodingFault(one),
]);
for (const vector of index.vectors as Vector[]) verdicts.push([vector.name, await vectorFault(vector)]);
for (const [name, said] of verdicts) console.log(said ? `wrong  ${name}: ${said}` : `right  ${name}`);
const wrong = verdicts.filter(([, said]) => said).length;
console.log(`${verdicts.length - wrong} passed, ${wrong} failed`);
client.close();
process.exitCode = wrong ? 1 : 0;
