// Give one model's tensors their meaning: items -> input tensors, output tensors -> answers.

import { decode, sorted, suppress } from "./boxes.mjs";
import { toPicture, writePictures } from "./image.mjs";
import { roundEven } from "./resample.mjs";
import { writeRows } from "./table.mjs";
import { InputError, nest, numbers, shapeOf, tensor } from "./tensors.mjs";

const TASKS = {
  detect: { write: writeImages, read: readBoxes },
  classify: { write: writeImages, read: readClasses },
  tabular: { write: (spec, rows) => ({ inputs: writeRows(spec.table, rows), contexts: rows.map(() => null) }), read: readRows },
  tensor: { write: writeArrays, read: readArrays },
};

/** Turn items into {inputs: {name: tensor}, contexts}. Pictures are {data: RGBA bytes, width, height}. */
export function preprocessWith(spec, items) {
  return TASKS[spec.kind].write(spec, items);
}

/** Turn the model's outputs into one answer an item, as Ferryman's server gives it. */
export function postprocessWith(spec, outputs, batch) {
  return TASKS[spec.kind].read(spec, outputs, batch);
}

function writeImages(spec, pictures) {
  const { inputs, placements } = writePictures(spec.input, pictures);
  return { inputs, contexts: placements };
}

function round(value, digits) {
  return Number.isFinite(value) ? roundEven(value * 10 ** digits) / 10 ** digits : value;
}

function labelOf(labels, number) {
  return labels?.[number] ?? String(number);
}

function readBoxes(spec, outputs, { contexts }) {
  const decoded = decode(spec.decoder, outputs, [spec.input.height, spec.input.width]);
  if (decoded.length !== contexts.length) throw new InputError(`the model answered ${decoded.length} pictures of ${contexts.length}`);
  return decoded.map((boxes, place) => {
    const sound = boxes.filter(({ corners }) => corners.every(Number.isFinite));
    const kept = spec.nms.suppresses ? suppress(sound, spec.nms) : sorted(sound).slice(0, spec.nms.max);
    const shown = kept.map((box) => ({ ...box, corners: toPicture(contexts[place], box.corners) }))
      .filter(({ corners: [left, top, right, bottom] }) => right > left && bottom > top);
    return {
      boxes: shown.map(({ corners }) => corners.map((side) => round(side, 3))),
      scores: shown.map(({ score }) => round(score, 6)),
      classes: shown.map((box) => box.class),
      labels: shown.map((box) => labelOf(spec.labels, box.class)),
    };
  });
}

function readClasses(spec, outputs, { contexts }) {
  const values = numbers(outputs[spec.output]);
  const width = values.length / contexts.length;
  if (!Number.isInteger(width)) throw new InputError(`the model's output '${spec.output}' has shape ${outputs[spec.output].shape} for this batch`);
  return contexts.map((_, place) => {
    const scores = activate(Array.from(values.slice(place * width, (place + 1) * width)), spec.activation);
    const rank = (number) => (Number.isNaN(scores[number]) ? Infinity : -scores[number]); // NaN last, as numpy sorts
    const order = (one, other) => (rank(one) === rank(other) ? one - other : rank(one) - rank(other));
    const best = scores.map((_, number) => number).sort(order).slice(0, spec.topK);
    return { classes: best, labels: best.map((number) => labelOf(spec.labels, number)), scores: best.map((number) => round(scores[number], 6)) };
  });
}

function activate(values, activation) {
  if (activation === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-Math.min(Math.max(value, -500), 500))));
  if (activation !== "softmax") return values;
  const most = values.reduce((one, other) => Math.max(one, other), -Infinity);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function readRows(spec, outputs, { contexts }) {
  const read = (name) => (name === null ? null : outputs[name].dtype === "string" ? outputs[name].data : numbers(outputs[name]));
  const [values, own, flat] = [read(spec.prediction), read(spec.label), read(spec.probabilities)];
  if (values !== null) return contexts.map((_, place) => ({ value: values[place] }));
  const width = flat === null ? 0 : flat.length / contexts.length;
  return contexts.map((_, place) => {
    const given = flat === null ? [] : Array.from(flat.slice(place * width, (place + 1) * width));
    const shares = given.length === 1 ? [1 - given[0], given[0]] : given;
    const names = shares.map((_, number) => labelOf(spec.labels, number));
    const probabilities = Object.fromEntries(names.map((name, number) => [name, shares[number]]));
    if (own !== null) return { label: nameOwn(spec.labels, own[place * (own.length / contexts.length)]), probabilities };
    const best = shares.reduce((found, share, number) => (share > shares[found] ? number : found), 0);
    return { label: shares.some(Number.isNaN) ? null : names[best], probabilities };
  });
}

function nameOwn(labels, own) {
  if (labels === null || labels.includes(String(own))) return String(own);
  return Number.isInteger(own) && own >= 0 && own < labels.length ? labels[own] : String(own);
}

function writeArrays(spec, items) {
  const names = spec.inputs.map((port) => port.name);
  const rows = items.map((item, place) => {
    const unknown = Object.keys(item).find((name) => !names.includes(name));
    if (unknown !== undefined) throw new InputError(`item ${place + 1}: no input is called '${unknown}'; this model takes ${names}`);
    return spec.inputs.map((port) => fit(item[port.name], port, place));
  });
  const inputs = Object.fromEntries(spec.inputs.map((port, at) => [port.name, join(rows.map((row) => row[at]), port)]));
  return { inputs, contexts: rows.map(([first]) => first.shape[0] ?? 1) };
}

function fit(value, port, place) {
  if (value === undefined) throw new InputError(`item ${place + 1}: input '${port.name}' is missing`);
  const isList = Array.isArray(value) || typeof value === "number";
  let { shape, data } = isList ? { shape: shapeOf(value), data: [value].flat(Infinity) } : value;
  if (shape.length === port.shape.length - 1) shape = [1, ...shape];
  const fits = shape.length === port.shape.length && port.shape.every((side, axis) => typeof side === "string" || side === shape[axis]);
  if (!fits) throw new InputError(`item ${place + 1}: input '${port.name}' has shape [${shape}]; the model takes [${port.shape}]`);
  return isList ? tensor(port.dtype, shape, data) : { dtype: port.dtype, shape, data };
}

function join(parts, port) {
  if (parts.length === 1) return parts[0];
  const shape = [parts.reduce((sum, part) => sum + part.shape[0], 0), ...parts[0].shape.slice(1)];
  const data = parts[0].data.constructor.from(parts.flatMap(({ data }) => Array.from(data)));
  if (data.length !== shape.reduce((size, side) => size * side, 1)) throw new InputError(`input '${port.name}' has differing shapes in one batch`);
  return { dtype: port.dtype, shape, data };
}

function readArrays(_spec, outputs, { contexts }) {
  const total = contexts.reduce((sum, count) => sum + count, 0);
  let start = 0;
  return contexts.map((count) => {
    const own = Object.entries(outputs).map(([name, { dtype, shape, data }]) => {
      if (contexts.length === 1) return [name, { dtype, shape, data: nest(numbers({ dtype, data }), shape) }];
      const step = data.length / total;
      const part = { dtype, shape: [count, ...shape.slice(1)] };
      return [name, { ...part, data: nest(numbers({ dtype, data: data.slice(start * step, (start + count) * step) }), part.shape) }];
    });
    start += count;
    return { outputs: Object.fromEntries(own) };
  });
}
