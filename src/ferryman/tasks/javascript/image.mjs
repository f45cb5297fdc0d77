// Turn decoded pictures into an image model's input tensor, by a bound spec.

import { resize, roundEven } from "./resample.mjs";
import { InputError, tensor, toIntegers } from "./tensors.mjs";

const MOST_RESIZED_PIXELS = 100_000_000;
const GREY = [9798, 19235, 3735]; // of red, green and blue, in 1/32768

/** Give {name: tensor} of some pictures, each {data: RGBA bytes, width, height}, and where in it each lies. */
export function writePictures(port, pictures) {
  const count = port.channels === "GRAY" ? 1 : 3;
  const size = port.height * port.width * count;
  const keeps = port.gain === null;
  const values = keeps ? new Uint8Array(pictures.length * size) : new Float32Array(pictures.length * size);
  const placements = pictures.map((picture, index) => {
    checkPicture(picture, index);
    const { pixels, placement } = place(port, picture);
    fill(port, pixels, values.subarray(index * size, (index + 1) * size), count);
    return placement;
  });
  const sides = [port.height, port.width];
  const shape = [pictures.length, ...(port.layout === "NCHW" ? [count, ...sides] : [...sides, count])];
  const data = port.dtype.startsWith("float") || keeps ? values : toIntegers(values, port.dtype);
  const isReady = keeps || port.dtype === "float32" || data !== values;
  return { inputs: { [port.name]: isReady ? { dtype: port.dtype, shape, data } : tensor(port.dtype, shape, data) }, placements };
}

/** Map a box xyxy from input pixels to the picture's, clipped to it. */
export function toPicture(placement, [left, top, right, bottom]) {
  const across = (x) => clip((x - placement.left) / placement.scaleX, placement.width);
  const down = (y) => clip((y - placement.top) / placement.scaleY, placement.height);
  return [across(left), down(top), across(right), down(bottom)];
}

function clip(value, most) {
  return Math.min(Math.max(value, 0), most);
}

function checkPicture({ data, width, height }, index) {
  if (!(width > 0 && height > 0) || data?.length !== width * height * 4) {
    throw new InputError(`picture ${index + 1} is not RGBA: ${data?.length} bytes for ${width} x ${height} pixels`);
  }
}

function fill({ layout, channels, gain, shift }, pixels, values, count) {
  const places = values.length / count;
  const order = { RGB: [0, 1, 2], BGR: [2, 1, 0], GRAY: [0] }[channels];
  const source = channels === "GRAY" ? toGrey(pixels) : pixels;
  for (let channel = 0; channel < count; channel++) {
    const [start, step] = layout === "NCHW" ? [channel * places, 1] : [channel, count];
    const factor = gain?.[channel % gain.length] ?? 1, sum = shift?.[channel % shift.length] ?? 0;
    for (let at = 0, from = order[channel], to = start; at < places; at++, from += count, to += step) {
      values[to] = Math.fround(source[from] * factor) + sum;
    }
  }
}

function toGrey(pixels) {
  return Uint8Array.from({ length: pixels.length / 3 }, (_, at) => {
    const sum = pixels[at * 3] * GREY[0] + pixels[at * 3 + 1] * GREY[1] + pixels[at * 3 + 2] * GREY[2];
    return (sum + 16384) >> 15;
  });
}

function place(port, picture) {
  const { width, height } = picture;
  if (port.fit === "stretch") {
    const pixels = resize(picture, port.width, port.height, port.resize);
    return { pixels, placement: placed(picture, port.width, port.height, 0, 0) };
  }
  if (port.fit === "crop") return crop(port, picture);
  const ratio = Math.min(port.height / height, port.width / width);
  const innerHeight = Math.min(Math.max(roundEven(height * ratio), 1), port.height);
  const innerWidth = Math.min(Math.max(roundEven(width * ratio), 1), port.width);
  const [left, top] = anchored(port, port.width - innerWidth, port.height - innerHeight);
  const inner = resize(picture, innerWidth, innerHeight, port.resize);
  const pixels = new Uint8Array(port.width * port.height * 3).fill(port.pad);
  for (let row = 0; row < innerHeight; row++) {
    pixels.set(inner.subarray(row * innerWidth * 3, (row + 1) * innerWidth * 3), ((top + row) * port.width + left) * 3);
  }
  return { pixels, placement: placed(picture, innerWidth, innerHeight, left, top) };
}

function crop(port, picture) {
  const { width, height } = picture;
  const covers = Math.max(port.height / height, port.width / width);
  const ratio = port.resizeShort === null ? covers : port.resizeShort / Math.min(height, width);
  const innerHeight = Math.max(roundEven(height * ratio), port.height);
  const innerWidth = Math.max(roundEven(width * ratio), port.width);
  if (innerHeight * innerWidth > MOST_RESIZED_PIXELS) {
    throw new InputError(`a picture of ${width} x ${height} would be enlarged to ${innerWidth} x ${innerHeight} before cutting`);
  }
  const [left, top] = anchored(port, innerWidth - port.width, innerHeight - port.height);
  const inner = resize(picture, innerWidth, innerHeight, port.resize);
  const pixels = new Uint8Array(port.width * port.height * 3);
  for (let row = 0; row < port.height; row++) {
    const from = ((top + row) * innerWidth + left) * 3;
    pixels.set(inner.subarray(from, from + port.width * 3), row * port.width * 3);
  }
  return { pixels, placement: placed(picture, innerWidth, innerHeight, -left, -top) };
}

function anchored(port, spareWidth, spareHeight) {
  return port.anchor === "center" ? [Math.floor(spareWidth / 2), Math.floor(spareHeight / 2)] : [0, 0];
}

function placed({ width, height }, innerWidth, innerHeight, left, top) {
  return { scaleX: innerWidth / width, scaleY: innerHeight / height, left, top, width, height };
}
