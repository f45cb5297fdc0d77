// Tensors as {dtype, shape, data}, where data is a typed array in row-major order (of text: an ordinary array).

import { roundEven } from "./resample.mjs";

const ARRAYS = {
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array,
  int32: Int32Array, int64: BigInt64Array, uint64: BigUint64Array, float32: Float32Array, float64: Float64Array,
  float16: Uint16Array, string: Array,
};

/** Say what is wrong with what was given: the user's mistake. */
export class InputError extends Error {}

/** Make a tensor of numbers or text. */
export function tensor(dtype, shape, values) {
  const Kind = ARRAYS[dtype];
  if (Kind === undefined) throw new InputError(`tensors of ${dtype} can't be made in JavaScript`);
  const convert = dtype.endsWith("int64") ? BigInt : dtype === "float16" ? toHalf : null;
  return { dtype, shape, data: Kind.from(convert ? Array.from(values, convert) : values) };
}

/** Give a tensor's values as ordinary numbers. */
export function numbers({ dtype, data }) {
  if (dtype === "float16") return Float64Array.from(data, fromHalf);
  return dtype.endsWith("int64") ? Float64Array.from(data, Number) : data;
}

/** Turn floats into integers as numpy does: rounded to the even, within the type's range. */
export function toIntegers(values, dtype) {
  const [low, high] = dtype === "int8" ? [-128, 127] : [0, 255];
  return ARRAYS[dtype].from(values, (value) => Math.min(Math.max(roundEven(value), low), high));
}

/** Give the shape of nested lists; raises InputError where rows differ in length. */
export function shapeOf(nested) {
  if (!Array.isArray(nested)) return [];
  const [first, ...others] = nested.map(shapeOf);
  if (others.some((shape) => String(shape) !== String(first))) throw new InputError("ragged: its rows differ in length");
  return [nested.length, ...(first ?? [])];
}

/** Fold a tensor's values into nested lists. */
export function nest(values, shape) {
  if (shape.length === 0) return values[0];
  const step = values.length / shape[0];
  if (shape.length === 1) return Array.from(values);
  return Array.from({ length: shape[0] }, (_, at) => nest(values.slice(at * step, (at + 1) * step), shape.slice(1)));
}

function toHalf(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size || 1e-9)), -14);
  const steps = roundEven(size / 2 ** (exponent - 10)); // 1024 of them to a power of two; a carry is right as it is
  return sign | (steps + (exponent + 14) * 1024);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, steps = bits & 1023;
  if (exponent === 31) return steps ? NaN : sign * Infinity;
  return exponent === 0 ? sign * steps * 2 ** -24 : sign * (steps + 1024) * 2 ** (exponent - 25);
}
