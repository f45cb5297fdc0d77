// Decode detectors' outputs into boxes, and thin them out. A box is {corners: [x1, y1, x2, y2], score, class}.

import { InputError, numbers } from "./tensors.mjs";

const MOST_CANDIDATES = 30_000;

/** Give each picture's boxes, in input pixels; scores below the decoder's are left out. */
export function decode(decoder, outputs, size) {
  return { dense: decodeDense, rows: decodeRows, lists: decodeLists }[decoder.layout](decoder, outputs, size);
}

/** Sort boxes, the best first; of equal ones the earlier first. */
export function sorted(boxes) {
  return boxes.map((box, place) => ({ box, place }))
    .sort((one, other) => other.box.score - one.box.score || one.place - other.place)
    .map(({ box }) => box);
}

/** Keep the boxes that no better one covers: greedy non-maximum suppression. */
export function suppress(boxes, { iou: overlap, max, agnostic }) {
  const kept = [];
  for (const box of sorted(boxes)) {
    if (kept.length >= max) break;
    if (!kept.some((better) => (agnostic || better.class === box.class) && iou(better.corners, box.corners) > overlap)) kept.push(box);
  }
  return kept;
}

/** Give the intersection over union of two boxes; 0 where both are empty. */
export function iou(one, other) {
  const wide = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const high = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const shared = Math.max(wide, 0) * Math.max(high, 0);
  const united = area(one) + area(other) - shared;
  return united > 0 ? shared / united : 0;
}

function area([left, top, right, bottom]) {
  return Math.max(right - left, 0) * Math.max(bottom - top, 0);
}

function output(outputs, name) {
  if (outputs[name] === undefined) throw new InputError(`the model gave no output '${name}', but ${Object.keys(outputs)}`);
  return { values: numbers(outputs[name]), shape: outputs[name].shape };
}

function decodeDense(decoder, outputs, size) {
  const { values, shape } = output(outputs, decoder.output);
  const [count, rows, width] = decoder.isTransposed ? [shape[0], shape[2], shape[1]] : shape;
  const cells = decoder.strides && cellsOf(decoder.strides, size);
  if (cells && cells.length !== rows) throw new InputError(`'${decoder.output}' has ${rows} rows; its grids have ${cells.length} cells`);
  const [rowStep, step] = decoder.isTransposed ? [1, rows] : [width, 1];
  return Array.from({ length: count }, (_, picture) => {
    const start = picture * rows * width;
    const found = [];
    for (let row = 0; row < rows; row++) {
      const read = (column) => values[start + row * rowStep + column * step];
      const chosen = classesOf(decoder, read, width);
      for (const [number, score] of chosen) found.push({ corners: cornersOf(read, cells?.[row]), score, class: number });
    }
    return mostOf(found);
  });
}

function mostOf(boxes) {
  if (boxes.length <= MOST_CANDIDATES) return boxes;
  const best = new Set(sorted(boxes).slice(0, MOST_CANDIDATES));
  return boxes.filter((box) => best.has(box));
}

function classesOf({ hasObjectness, score: least, multiLabel }, read, width) {
  const first = hasObjectness ? 5 : 4;
  const objectness = hasObjectness ? read(4) : 1;
  const chosen = [];
  if (!(objectness >= least)) return chosen;
  let best = -1, most = -Infinity;
  for (let column = first; column < width; column++) {
    const score = read(column) * objectness;
    if (multiLabel && score >= least) chosen.push([column - first, score]);
    if (score > most) [best, most] = [column - first, score];
  }
  return multiLabel ? chosen : most >= least ? [[best, most]] : [];
}

function cornersOf(read, cell) {
  let [x, y, width, height] = [read(0), read(1), read(2), read(3)];
  if (cell) {
    const [column, row, stride] = cell;
    [x, y] = [(x + column) * stride, (y + row) * stride];
    // e^30 pixels is beyond any picture; the limit keeps a broken model's numbers finite.
    [width, height] = [Math.exp(Math.min(width, 30)) * stride, Math.exp(Math.min(height, 30)) * stride];
  }
  return [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
}

function cellsOf(strides, [height, width]) {
  const cells = [];
  for (const stride of strides) {
    const [rows, columns] = [Math.floor(height / stride), Math.floor(width / stride)];
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) cells.push([column, row, stride]);
  }
  return cells;
}

function decodeRows(decoder, outputs) {
  const { values, shape } = output(outputs, decoder.output);
  const [count, rows] = shape.length === 2 ? [1, shape[0]] : shape;
  return Array.from({ length: count }, (_, picture) =>
    pick(decoder, rows, (row) => values.slice((picture * rows + row) * 6, (picture * rows + row) * 6 + 6)));
}

function decodeLists(decoder, outputs) {
  const [boxes, scores, classes] = [decoder.boxes, decoder.scores, decoder.classes].map((name) => output(outputs, name));
  const count = boxes.shape.length === 2 ? 1 : boxes.shape[0];
  const rows = boxes.values.length / 4 / count;
  const valid = decoder.count ? output(outputs, decoder.count).values : null;
  return Array.from({ length: count }, (_, picture) =>
    pick(decoder, valid ? Math.min(valid[picture], rows) : rows, (row) => {
      const at = picture * rows + row;
      return [...boxes.values.slice(at * 4, at * 4 + 4), scores.values[at], classes.values[at]];
    }));
}

function pick(decoder, rows, read) {
  const found = [];
  for (let row = 0; row < rows; row++) {
    const [first, second, third, fourth, score, number] = read(row);
    const own = Math.trunc(number - decoder.firstClass);
    // A class below the first is the background, or the padding (-1) that some graphs write after the last box.
    if (!(score >= decoder.score && number - decoder.firstClass >= 0)) continue;
    const sides = [first, second, third, fourth].map((side, place) => side * decoder.factor[place]);
    found.push({ corners: toCorners(sides, decoder.boxFormat), score, class: own });
  }
  return found;
}

function toCorners([a, b, c, d], format) {
  if (format === "yxyx") return [b, a, d, c];
  if (format === "xywh") return [a, b, a + c, b + d];
  return format === "cxcywh" ? [a - c / 2, b - d / 2, a + c / 2, b + d / 2] : [a, b, c, d];
}
