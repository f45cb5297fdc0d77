// Answer tensors with ONNX Runtime's WebAssembly build: the same file in browsers and in Node.

import * as ort from "./ort.js";

/** Load the model of this folder; `read(name)` gives a file of it as an ArrayBuffer. */
export async function open(read, { threads = 1 } = {}) {
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads; // more than one needs a page that is cross-origin isolated
  ort.env.wasm.wasmBinary = await read("ort.wasm");
  const session = await ort.InferenceSession.create(new Uint8Array(await read("model.onnx")), { executionProviders: ["wasm"] });
  return {
    /** Turn {name: {dtype, shape, data}} into the same of the model's outputs. */
    async infer(inputs) {
      const given = Object.entries(inputs).map(([name, { dtype, shape, data }]) => [name, new ort.Tensor(dtype, data, shape)]);
      const told = await session.run(Object.fromEntries(given));
      return Object.fromEntries(Object.entries(told).map(([name, { type, dims, data }]) => [name, { dtype: type, shape: [...dims], data }]));
    },
    close: () => session.release(),
  };
}
