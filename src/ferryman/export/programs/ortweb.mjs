// Add ONNX Runtime's WebAssembly build to a folder with a model, and see that it takes the model.

import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const FILES = { "ort.js": "ort.wasm.bundle.min.mjs", "ort.wasm": "ort-wasm-simd-threaded.wasm" };

export async function pack({ folder }, tell) {
  const engine = dirname(requirePackage.resolve("onnxruntime-web"));
  for (const [name, origin] of Object.entries(FILES)) copyFileSync(join(engine, origin), join(folder, name));
  writeFileSync(join(folder, "package.json"), '{"type": "module"}\n'); // Node takes .js files for CommonJS otherwise
  tell("ONNX Runtime's WebAssembly build loads the model");
  const { open } = await import(pathToFileURL(join(folder, "engine.js")));
  try {
    const session = await open(async (name) => new Uint8Array(readFileSync(join(folder, name))).buffer);
    await session.close();
  } catch (error) {
    throw new Refused(`ONNX Runtime's WebAssembly build can't take this model: ${error.message ?? error}`, {
      hint: "it lacks the operator or the type that is named here; export without it, or serve the model instead",
    });
  }
  return {};
}
