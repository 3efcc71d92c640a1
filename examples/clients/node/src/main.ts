// One small batch, one of 64 MiB in chunks, and one that is refused:
//
//     npm start -- localhost:50051

import { computeLoss, connect, isServiceError, refusalOf, streamLoss } from "./lossd.js";
import { decode, ofFloats, ofIntegers } from "./tensors.js";
import type { ComputeLossRequest } from "./generated/lossd/v1/ComputeLossRequest.js";

const client = connect(process.argv[2] ?? "localhost:50051");

function crossEntropy(logits: Float32Array, labels: Int32Array): ComputeLossRequest {
  const rows = labels.length;
  return {
    loss: { cross_entropy: {} },
    inputs: [
      { name: "predictions", tensors: [ofFloats(logits, [rows, logits.length / rows])] },
      { name: "targets", tensors: [ofIntegers(labels, [rows])] },
    ],
  };
}

async function small(): Promise<void> {
  const logits = Float32Array.of(2, -1, 0.5, 0, 3, -2.5);
  const result = await computeLoss(client, crossEntropy(logits, Int32Array.of(0, 2)));
  console.log(`small batch: loss ${result.loss}`);
  console.log(`  per example ${decode(result.per_example!).join(" ")}`);
  console.log(`  gradient    ${decode(result.gradients![0]!.tensors![0]!).join(" ")}`);
}

async function large(): Promise<void> {
  const [rows, classes] = [16384, 1024];
  const logits = new Float32Array(rows * classes);
  const labels = Int32Array.from({ length: rows }, (_, row) => row % classes);
  labels.forEach((label, row) => (logits[row * classes + label] = 1));
  const result = await streamLoss(client, crossEntropy(logits, labels));
  const gradient = result.gradients![0]!.tensors![0]!;
  console.log(`64 MiB in chunks: loss ${result.loss}, must be ${Math.log(Math.E + classes - 1) - 1}`);
  console.log(`  gradient of ${gradient.shape!.join(" x ")}, ${gradient.data!.length} bytes`);
}

async function refused(): Promise<void> {
  try {
    await computeLoss(client, crossEntropy(new Float32Array(6), Int32Array.of(0, 7)));
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const said = refusalOf(error);
    console.log(`refused: ${said.code} ${said.reason} at ${said.fields.join(", ")}`);
    console.log(`  ${said.message}`);
    console.log(`  call ${said.metadata["request_id"]}`);
  }
}

await small();
await large();
await refused();
client.close();
