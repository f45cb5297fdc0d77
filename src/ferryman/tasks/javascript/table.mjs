// Turn table rows into a model's inputs.

import { InputError, tensor } from "./tensors.mjs";

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const WORDS = { nan: NaN, inf: Infinity, infinity: Infinity, "+inf": Infinity, "-inf": -Infinity, "-infinity": -Infinity };
const RANGES = { uint8: [0, 255], int8: [-128, 127], uint16: [0, 65535], int16: [-32768, 32767], bool: [-Infinity, Infinity] };

/** Give the inputs of some rows, each {column: cell}; raises InputError that names row, column and value. */
export function writeRows(port, rows) {
  rows.forEach((row, place) => checkColumns(port, row, place));
  const at = (row, place, column, dtype) => number(row[column], `row ${place + 1}, column '${column}'`, dtype, port.missing);
  if (port.matrix) {
    const { name, dtype } = port.matrix;
    const cells = rows.map((row, place) => (port.columns ?? Object.keys(row)).map((column) => at(row, place, column, dtype)));
    return { [name]: tensor(dtype, [rows.length, cells[0]?.length ?? 0], cells.flat()) };
  }
  return Object.fromEntries(port.single.map(({ column, name, dtype, rank }) => {
    const values = rows.map((row, place) => (dtype === "string" ? text(row[column], place, column) : at(row, place, column, dtype)));
    return [name, tensor(dtype, rank === 2 ? [rows.length, 1] : [rows.length], values)];
  }));
}

function checkColumns(port, row, place) {
  if (row === null || typeof row !== "object" || Array.isArray(row)) throw new InputError(`row ${place + 1} is not a set of named cells`);
  const given = Object.keys(row);
  if (port.columns === null) {
    if (port.width !== null && given.length !== port.width) throw new InputError(`row ${place + 1} has ${given.length} cells; the model takes ${port.width}`);
    return;
  }
  const unknown = given.find((column) => !port.columns.includes(column));
  if (unknown !== undefined) throw new InputError(`row ${place + 1} has a column '${unknown}' that the model doesn't take`);
  const missing = port.columns.find((column) => !(column in row));
  if (missing !== undefined) throw new InputError(`row ${place + 1} lacks column '${missing}'`);
}

function number(cell, where, dtype, allowsMissing) {
  const value = parse(cell);
  if (value === undefined) throw new InputError(`${where}: ${JSON.stringify(cell)} is not a number`);
  if (dtype.startsWith("float")) {
    if (!allowsMissing && !Number.isFinite(value)) throw new InputError(`${where} is ${Number.isNaN(value) ? "empty" : "infinite"}`);
    return value;
  }
  if (!Number.isInteger(value)) throw new InputError(`${where}: ${value} is not a whole number`);
  const [low, high] = RANGES[dtype] ?? [-(2 ** 53), 2 ** 53];
  if (value < low || value > high) throw new InputError(`${where}: ${value} doesn't fit ${dtype}`);
  return dtype === "bool" ? Number(value !== 0) : value;
}

function parse(cell) {
  if (cell === null || cell === undefined) return NaN;
  if (typeof cell !== "string") return typeof cell === "number" || typeof cell === "boolean" ? Number(cell) : undefined;
  const word = cell.trim().toLowerCase();
  if (word === "") return NaN;
  return NUMBER.test(word) ? Number(word) : WORDS[word];
}

function text(cell, place, column) {
  if (cell === null || cell === undefined) return "";
  if (typeof cell === "object") throw new InputError(`row ${place + 1}, column '${column}': what it holds is neither text nor a number`);
  return typeof cell === "boolean" ? (cell ? "True" : "False") : String(cell);
}
