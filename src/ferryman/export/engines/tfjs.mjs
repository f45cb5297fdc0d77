// Answer tensors with TensorFlow.js's WebAssembly backend: the same file in browsers and in Node.

import "./tf-core.js";
import "./tf-converter.js";
import "./tf-backend-wasm.js";

const tf = globalThis.tf;
const ARRAYS = { int32: Int32Array, float32: Float32Array, bool: Uint8Array };

/** Load the model of this folder; `read(name)` gives a file of it as an ArrayBuffer. */
export async function open(read) {
  const files = ["tfjs-backend-wasm.wasm", "tfjs-backend-wasm-simd.wasm"];
  const urls = await Promise.all(files.map(async (name) => [name, toUrl(await read(name), "application/wasm")]));
  // Threads need a page that is cross-origin isolated, and a third file: its name has to be there all the same.
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
  tf.wasm.setWasmPaths({ ...Object.fromEntries(urls), "tfjs-backend-wasm-threaded-simd.wasm": "unused" }, true);
  await tf.setBackend("wasm");
  const about = JSON.parse(new TextDecoder().decode(await read("model.json")));
  const model = await tf.loadGraphModel({ load: () => gather(about, read) });
  const { inputs, outputs } = about.userDefinedMetadata.ferryman;
  return {
    /** Turn {name: {dtype, shape, data}} into the same of the model's outputs. */
    async infer(given) {
      const fed = inputs.map(({ name, node }) => [node, tf.tensor(given[name].data, given[name].shape, given[name].dtype)]);
      const told = [model.execute(Object.fromEntries(fed), outputs.map(({ node }) => node))].flat();
      const values = await Promise.all(told.map((tensor) => tensor.data()));
      const named = outputs.map(({ name }, at) => [name, { dtype: told[at].dtype, shape: told[at].shape, data: ARRAYS[told[at].dtype].from(values[at]) }]);
      for (const tensor of [...told, ...fed.map(([, tensor]) => tensor)]) tensor.dispose();
      return Object.fromEntries(named);
    },
    close: () => model.dispose(),
  };
}

// The backend fetches its WebAssembly itself; it is handed what was read already.
function toUrl(bytes, type) {
  return URL.createObjectURL(new Blob([bytes], { type }));
}

async function gather(about, read) {
  const parts = await Promise.all(about.weightsManifest.flatMap(({ paths }) => paths).map(read));
  const weightData = await new Blob(parts).arrayBuffer();
  const weightSpecs = about.weightsManifest.flatMap(({ weights }) => weights);
  return { modelTopology: about.modelTopology, weightSpecs, weightData, signature: about.signature };
}
