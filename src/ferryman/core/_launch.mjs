// Run a program's functions for a caller over pipes, in Node: what _launch.py does for Python.
// Usage: node _launch.mjs PROGRAM REQUESTS REPLIES FOLDER. Tensors are {dtype, shape, data: TypedArray}.

import dgram from "node:dgram";
import { createReadStream, readFileSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [program, requests, replies, folder, packages] = process.argv.slice(2);
const ARRAYS = {
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float16: Uint16Array,
  uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array,
  int64: BigInt64Array, uint64: BigUint64Array,
};
let count = 0;

class Refused extends Error {
  constructor(message, { hint = "" } = {}) {
    super(message);
    this.hint = hint;
  }
}

function read(_key, value) {
  if (value === null || typeof value !== "object" || !("$array" in value)) return value;
  const { file, dtype, shape } = value.$array;
  const bytes = readFileSync(join(folder, file));
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return { dtype, shape, data: new ARRAYS[dtype](copy) };
}

function write(_key, value) {
  if (value === null || typeof value !== "object" || !ArrayBuffer.isView(value.data)) return value;
  const file = `reply-${++count}.bin`;
  writeFileSync(join(folder, file), Buffer.from(value.data.buffer, value.data.byteOffset, value.data.byteLength));
  return { $array: { file, dtype: value.dtype, shape: value.shape } };
}

function say(message) {
  const payload = Buffer.from(JSON.stringify(message, write) + "\n");
  for (let sent = 0; sent < payload.length; ) sent += writeSync(Number(replies), payload, sent);
}

const tell = (stage, { done = 0, total = 0, note = "" } = {}) => say({ progress: { stage, done, total, note } });

async function answer(state, verb, request) {
  if (verb === "load") {
    state.model = await state.program.load(request, tell);
    return {};
  }
  if (verb === "infer") {
    const begun = performance.now();
    const outputs = await state.model.infer(request.inputs);
    return { seconds: (outputs.$seconds ?? (performance.now() - begun) / 1000), outputs: { ...outputs, $seconds: undefined } };
  }
  return await state.program[verb](request, tell);
}

// Where the process could not be cut off from the network, Node's own connections are refused.
function forbidNetwork() {
  const refuse = () => {
    throw new Error("a converter may not use the network");
  };
  for (const kind of [net.Socket, dgram.Socket]) kind.prototype.connect = refuse;
  dgram.Socket.prototype.send = refuse;
}

const network = process.env.FERRYMAN_NETWORK ?? "audited";
if (network !== "none") forbidNetwork();
say({ network });
globalThis.Refused = Refused;
globalThis.requirePackage = createRequire(join(packages, "package.json"));
const state = {};
for await (const line of createInterface({ input: createReadStream(null, { fd: Number(requests) }) })) {
  const asked = JSON.parse(line, read);
  try {
    state.program ??= await import(pathToFileURL(program));
    say({ result: (await answer(state, asked.verb, asked.request)) ?? {} });
  } catch (error) {
    if (error instanceof Refused) {
      say({ refused: error.message, hint: error.hint });
    } else {
      console.error(error);
      say({ failed: String(error) });
    }
  }
}
process.exit(0);
