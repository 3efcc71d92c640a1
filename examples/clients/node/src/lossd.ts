// What a client of lossd needs: a connection, a call, a call in chunks, and the details of an error.

import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import type { ProtoGrpcType as Details } from "./generated/details.js";
import type { ProtoGrpcType as Evaluation } from "./generated/evaluation_service.js";
import type { ProtoGrpcType as Losses } from "./generated/loss_service.js";
import type { ComputeLossRequest } from "./generated/lossd/v1/ComputeLossRequest.js";
import type { ComputeLossResponse__Output as Result } from "./generated/lossd/v1/ComputeLossResponse.js";
import type { LossServiceClient } from "./generated/lossd/v1/LossService.js";
import type { NamedTensors } from "./generated/lossd/v1/NamedTensors.js";
import type { StreamLossResponse__Output } from "./generated/lossd/v1/StreamLossResponse.js";
import type { Tensor } from "./generated/lossd/v1/Tensor.js";

const CHUNK_BYTES = 1 << 20;
// gRPC's own bound of 4 MiB on what is received is less than many a gradient.
const OPTIONS = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const files = ["lossd/v1/loss_service.proto", "lossd/v1/evaluation_service.proto", "google/rpc/details.proto"];
export const definition = loader.loadSync(files, {
  includeDirs: [here("../../../../protos"), here("../protos")],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});
const root = grpc.loadPackageDefinition(definition) as unknown as Losses & Evaluation & Details;

export function connect(address: string): LossServiceClient {
  return new root.lossd.v1.LossService(address, grpc.credentials.createInsecure(), OPTIONS);
}

export function computeLoss(client: LossServiceClient, request: ComputeLossRequest): Promise<Result> {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 30_000;
    client.ComputeLoss(request, { deadline }, (error, result) => {
      if (error || !result) reject(error ?? new Error("reply must be there, got none"));
      else resolve(result);
    });
  });
}

// Sends the tensors of a request in chunks, once the server has let the call in, and puts together
// those of the reply.
export async function streamLoss(client: LossServiceClient, request: ComputeLossRequest): Promise<Result> {
  const call = client.StreamLoss({ deadline: Date.now() + 120_000 });
  const { header, following } = split(request);
  const answered = (async () => {
    const assembly = new Assembly();
    for await (const part of call as AsyncIterable<StreamLossResponse__Output>) assembly.take(part);
    return assembly.result();
  })();
  const admitted = new Promise((resolve) => call.once("metadata", resolve));
  call.write({ call: header });
  await Promise.race([admitted, answered]); // a call that is refused sends no chunks in vain
  for (const data of following) {
    for (let start = 0; start < data.length; start += CHUNK_BYTES) {
      const hasRoom = call.write({ chunk: data.subarray(start, start + CHUNK_BYTES) });
      if (!hasRoom) await Promise.race([new Promise((resolve) => call.once("drain", resolve)), answered]);
    }
  }
  call.end();
  return answered;
}

// Returns a request whose tensors are announced, and their data in the order of the fields.
function split(request: ComputeLossRequest): { header: ComputeLossRequest; following: Buffer[] } {
  const following: Buffer[] = [];
  const announced = (tensor: Tensor | null | undefined): Tensor | null | undefined => {
    if (!tensor?.data) return tensor;
    const data = tensor.data as Buffer;
    following.push(data);
    const chunks = { position: following.length - 1, size_bytes: data.length };
    return { dtype: tensor.dtype, shape: tensor.shape, chunks };
  };
  const { weights, mask, cotangent, inputs } = request;
  const header = {
    ...request,
    weights: announced(weights),
    mask: announced(mask),
    cotangent: announced(cotangent),
    inputs: (inputs ?? []).map((named: NamedTensors) => ({
      ...named,
      tensors: (named.tensors ?? []).map((tensor) => announced(tensor) as Tensor),
    })),
  };
  return { header, following };
}

// One or more results, whose tensors come in chunks.
export class Assembly {
  readonly results: Result[] = [];
  private awaited: { tensor: Tensor; data: Buffer; filled: number }[] = [];

  take(part: StreamLossResponse__Output): void {
    if (part.result) {
      if (this.awaited.length) throw new Error("part must be a chunk, got a result");
      this.results.push(part.result);
      this.awaited = tensorsOf(part.result)
        .filter((tensor) => tensor.chunks)
        .map((tensor) => ({ tensor, data: Buffer.alloc(Number(tensor.chunks?.size_bytes ?? 0)), filled: 0 }));
    } else if (part.chunk) {
      const next = this.awaited[0];
      if (!next || next.filled + part.chunk.length > next.data.length) {
        throw new Error("chunk must belong to a tensor, got one too much");
      }
      next.filled += part.chunk.copy(next.data, next.filled);
    }
    while (this.awaited[0] && this.awaited[0].filled === this.awaited[0].data.length) {
      const { tensor, data } = this.awaited.shift()!;
      delete tensor.chunks;
      Object.assign(tensor, { data, source: "data" });
    }
  }

  result(): Result {
    const [result] = this.results;
    if (!result || this.awaited.length) throw new Error("result must be whole, got a part of it");
    return result;
  }
}

// All tensors of a result, in the order of its fields.
function tensorsOf(result: Result): Tensor[] {
  const named = [...(result.gradients ?? []), ...(result.outputs ?? [])];
  const found: (Tensor | null | undefined)[] = [
    ...(result.metrics ?? []).flatMap((one) => [one.values, ...(one.outputs ?? []).flatMap((o) => o.tensors ?? [])]),
    ...(result.terms ?? []).flatMap((one) => (one.outputs ?? []).flatMap((o) => o.tensors ?? [])),
    result.statuses?.indices,
    result.statuses?.statuses,
    result.per_example,
    ...named.flatMap((one) => one.tensors ?? []),
  ];
  return found.filter((tensor): tensor is Tensor => Boolean(tensor));
}

// ------------------------------------------------------------------ errors

export interface Refusal {
  code: string;
  message: string;
  domain: string;
  reason: string;
  metadata: Record<string, string>;
  fields: string[];
  retryAfterSeconds: number | null;
}

// Returns what an error says: google.rpc.Status lies in the trailing metadata.
export function refusalOf(error: grpc.ServiceError): Refusal {
  const found: Refusal = {
    code: grpc.status[error.code] ?? String(error.code),
    message: error.details,
    domain: "",
    reason: "",
    metadata: {},
    fields: [],
    retryAfterSeconds: null,
  };
  const [encoded] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(encoded)) return found;
  for (const detail of parsed("google.rpc.Status", encoded).details ?? []) {
    const kind = detail.type_url.split("/").pop();
    if (kind === "google.rpc.ErrorInfo") {
      const said = parsed(kind, detail.value);
      Object.assign(found, { domain: said.domain, reason: said.reason, metadata: said.metadata ?? {} });
    } else if (kind === "google.rpc.BadRequest") {
      found.fields = parsed(kind, detail.value).field_violations.map((one: { field: string }) => one.field);
    } else if (kind === "google.rpc.RetryInfo") {
      const delay = parsed(kind, detail.value).retry_delay ?? {};
      found.retryAfterSeconds = Number(delay.seconds ?? 0) + (delay.nanos ?? 0) / 1e9;
    }
  }
  return found;
}

export function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

function parsed(name: string, data: Buffer): any {
  const type = definition[name] as loader.MessageTypeDefinition<object, object>;
  return type.deserialize(data);
}
