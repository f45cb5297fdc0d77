// Hold a model that was packed for browsers: its own engine.js answers.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export async function load({ folder }) {
  // Emscripten's loaders look for these two where they find themselves in Node, but modules don't have them.
  globalThis.require ??= createRequire(join(folder, "engine.js"));
  globalThis.__dirname ??= folder;
  const { open } = await import(pathToFileURL(join(folder, "engine.js")));
  const session = await open(async (name) => new Uint8Array(readFileSync(join(folder, name))).buffer);
  return {
    async infer(inputs) {
      try {
        return await session.infer(inputs);
      } catch (error) {
        throw new Refused(`the model can't take these inputs: ${error.message ?? error}`, { hint: "see its signature" });
      }
    },
  };
}
