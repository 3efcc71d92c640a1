// Tensors of the wire as numbers, and numbers as tensors: little endian, in C order.

import type { Tensor__Output as Tensor } from "./generated/lossd/v1/Tensor.js";

export type Numbers = (number | bigint | boolean)[];

interface Element {
  bytes: number;
  read(view: DataView, at: number): number | bigint | boolean;
  write(view: DataView, at: number, value: number | bigint | boolean): void;
}

const LITTLE = true;

const ELEMENTS: Record<string, Element> = {
  D_TYPE_BOOL: {
    bytes: 1,
    read: (view, at) => view.getUint8(at) !== 0,
    write: (view, at, value) => view.setUint8(at, value ? 1 : 0),
  },
  D_TYPE_UINT8: numbers(1, (v, at) => v.getUint8(at), (v, at, x) => v.setUint8(at, x)),
  D_TYPE_UINT16: numbers(2, (v, at) => v.getUint16(at, LITTLE), (v, at, x) => v.setUint16(at, x, LITTLE)),
  D_TYPE_UINT32: numbers(4, (v, at) => v.getUint32(at, LITTLE), (v, at, x) => v.setUint32(at, x, LITTLE)),
  D_TYPE_UINT64: {
    bytes: 8,
    read: (view, at) => view.getBigUint64(at, LITTLE),
    write: (view, at, value) => view.setBigUint64(at, BigInt(value), LITTLE),
  },
  D_TYPE_INT8: numbers(1, (v, at) => v.getInt8(at), (v, at, x) => v.setInt8(at, x)),
  D_TYPE_INT16: numbers(2, (v, at) => v.getInt16(at, LITTLE), (v, at, x) => v.setInt16(at, x, LITTLE)),
  D_TYPE_INT32: numbers(4, (v, at) => v.getInt32(at, LITTLE), (v, at, x) => v.setInt32(at, x, LITTLE)),
  D_TYPE_INT64: {
    bytes: 8,
    read: (view, at) => view.getBigInt64(at, LITTLE),
    write: (view, at, value) => view.setBigInt64(at, BigInt(value), LITTLE),
  },
  D_TYPE_FLOAT16: numbers(
    2,
    (v, at) => fromHalf(v.getUint16(at, LITTLE)),
    (v, at, x) => v.setUint16(at, toHalf(x), LITTLE),
  ),
  D_TYPE_BFLOAT16: numbers(
    2,
    (v, at) => fromBrain(v.getUint16(at, LITTLE)),
    (v, at, x) => v.setUint16(at, toBrain(x), LITTLE),
  ),
  D_TYPE_FLOAT32: numbers(4, (v, at) => v.getFloat32(at, LITTLE), (v, at, x) => v.setFloat32(at, x, LITTLE)),
  D_TYPE_FLOAT64: numbers(8, (v, at) => v.getFloat64(at, LITTLE), (v, at, x) => v.setFloat64(at, x, LITTLE)),
};

export function encode(dtype: string, values: Numbers): Buffer {
  const { bytes, write } = element(dtype);
  const data = Buffer.alloc(values.length * bytes);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  values.forEach((value, place) => write(view, place * bytes, value));
  return data;
}

export function decode(tensor: Tensor): Numbers {
  const { bytes, read } = element(tensor.dtype ?? "");
  const count = (tensor.shape ?? []).reduce((product, size) => product * Number(size), 1);
  const data = tensor.data ?? Buffer.alloc(0);
  if (data.byteLength !== count * bytes) {
    throw new Error(`data must have ${count * bytes} bytes, got ${data.byteLength}`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: count }, (_, place) => read(view, place * bytes));
}

export function isFloat(dtype: string): boolean {
  return dtype.includes("FLOAT");
}

// A float32 array and an int32 array as they lie in memory, without a loop.
export function ofFloats(array: Float32Array, shape: number[]) {
  return { dtype: "D_TYPE_FLOAT32", shape, data: bytesOf(array) } as const;
}

export function ofIntegers(array: Int32Array, shape: number[]) {
  return { dtype: "D_TYPE_INT32", shape, data: bytesOf(array) } as const;
}

function bytesOf(array: Float32Array | Int32Array): Buffer {
  if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) {
    throw new Error("this machine must be little endian, got one that is not");
  }
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

function element(dtype: string): Element {
  const found = ELEMENTS[dtype];
  if (found === undefined) {
    throw new Error(`dtype must be one of ${Object.keys(ELEMENTS).join(", ")}, got ${dtype}`);
  }
  return found;
}

function numbers(
  bytes: number,
  read: (view: DataView, at: number) => number,
  write: (view: DataView, at: number, value: number) => void,
): Element {
  return { bytes, read, write: (view, at, value) => write(view, at, Number(value)) };
}

// ------------------------------------------------------------------ types that JavaScript lacks

function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function toHalf(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00; // it rounds beyond the largest, 65504
  if (size < 2 ** -14) return sign | toEven(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | (((exponent + 15) << 10) + toEven((size / 2 ** exponent - 1) * 1024));
}

const BITS = new DataView(new ArrayBuffer(4));

function fromBrain(bits: number): number {
  BITS.setUint32(0, bits << 16);
  return BITS.getFloat32(0);
}

function toBrain(value: number): number {
  BITS.setFloat32(0, value);
  const bits = BITS.getUint32(0);
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function toEven(value: number): number {
  const low = Math.floor(value);
  const over = value - low;
  return over > 0.5 || (over === 0.5 && low % 2 === 1) ? low + 1 : low;
}
