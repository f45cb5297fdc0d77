// Resize pixels as OpenCV resizes 8-bit pictures, to the last bit where its own paths agree with each other.

const ONE = 2048; // fixed-point weights have 11 bits

/** Round to the nearest whole number, halves to the even one, as numpy and IEEE 754 do. */
export function roundEven(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest > 0.5 || (rest === 0.5 && whole % 2 !== 0) ? whole + 1 : whole;
}

/** Resize `picture`, {data: RGBA bytes, width, height}, to RGB bytes of `width` x `height`. */
export function resize(picture, width, height, how) {
  if (picture.width === width && picture.height === height) return withoutAlpha(picture);
  const across = 1 / (width / picture.width), down = 1 / (height / picture.height);
  if (how === "nearest") return pickNearest(picture, width, height, across, down);
  const shrinks = across >= 1 && down >= 1;
  if (how === "bilinear" && across === 2 && down === 2) how = "area"; // OpenCV does the same
  if (how === "area" && shrinks) return average(picture, width, height, across, down);
  const weigh = { bilinear: weighLine, area: weighGrown, bicubic: weighCubic, lanczos: weighLanczos }[how];
  const columns = weigh(width, picture.width, across, true);
  const rows = weigh(height, picture.height, down, false);
  return blend(picture, width, height, columns, rows);
}

function withoutAlpha({ data, width, height }) {
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < pixels.length; from += 4) {
    pixels[to++] = data[from];
    pixels[to++] = data[from + 1];
    pixels[to++] = data[from + 2];
  }
  return pixels;
}

function pickNearest(picture, width, height, across, down) {
  const pixels = new Uint8Array(width * height * 3);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const row = Math.min(Math.floor(y * down), picture.height - 1) * picture.width;
    for (let x = 0; x < width; x++) {
      const from = (row + Math.min(Math.floor(x * across), picture.width - 1)) * 4;
      for (let channel = 0; channel < 3; channel++) pixels[to++] = picture.data[from + channel];
    }
  }
  return pixels;
}

// Each output place has `taps` neighbours: their indices, and their weights, which sum up to `one`.
function makeTaps(count, taps, one = ONE) {
  return { taps, one, index: new Int32Array(count * taps), weight: new Float64Array(count * taps) };
}

function centre(place, scale) {
  const at = Math.fround((place + 0.5) * scale - 0.5);
  const first = Math.floor(at);
  return [first, Math.fround(at - first)];
}

function limit(index, size) {
  return Math.min(Math.max(index, 0), size - 1);
}

function setLine(taps, place, first, share, size) {
  taps.index[place * 2] = limit(first, size);
  taps.index[place * 2 + 1] = limit(first + 1, size);
  taps.weight[place * 2] = roundEven(Math.fround(1 - share) * ONE);
  taps.weight[place * 2 + 1] = roundEven(share * ONE);
}

function weighLine(count, size, scale, isAcross) {
  const taps = makeTaps(count, 2);
  for (let place = 0; place < count; place++) {
    let [first, share] = centre(place, scale);
    if (isAcross && (first < 0 || first >= size - 1)) [first, share] = [limit(first, size), 0];
    setLine(taps, place, first, share, size);
  }
  return taps;
}

// What "area" means where a side doesn't shrink: whole pixels, with a blend only where two meet.
function weighGrown(count, size, scale, isAcross) {
  const taps = makeTaps(count, 2);
  for (let place = 0; place < count; place++) {
    let first = Math.floor(place * scale);
    let share = Math.fround(place + 1 - (first + 1) / scale);
    share = share <= 0 ? 0 : Math.fround(share - Math.floor(share));
    if (isAcross && first >= size - 1) [first, share] = [size - 1, 0];
    setLine(taps, place, first, share, size);
  }
  return taps;
}

function weighWith(count, size, scale, one, weights) {
  const width = weights(0).length;
  const taps = makeTaps(count, width, one);
  for (let place = 0; place < count; place++) {
    const [first, share] = centre(place, scale);
    weights(share).forEach((weight, tap) => {
      taps.index[place * width + tap] = limit(first + tap - width / 2 + 1, size);
      taps.weight[place * width + tap] = one === 1 ? weight : roundEven(Math.fround(weight) * one);
    });
  }
  return taps;
}

function weighCubic(count, size, scale) {
  const slope = -0.75;
  const near = (t) => ((slope + 2) * t - (slope + 3)) * t * t + 1;
  const far = (t) => ((slope * t - 5 * slope) * t + 8 * slope) * t - 4 * slope;
  return weighWith(count, size, scale, 1, (t) => { // OpenCV computes this one in floats
    const [first, second, third] = [far(t + 1), near(t), near(1 - t)];
    return [first, second, third, 1 - first - second - third];
  });
}

function weighLanczos(count, size, scale) {
  const sinc = (x) => (Math.abs(x) < 1e-6 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  return weighWith(count, size, scale, ONE, (t) => {
    const raw = Array.from({ length: 8 }, (_, tap) => sinc(t + 3 - tap) * sinc((t + 3 - tap) / 4));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    return raw.map((weight) => weight / sum);
  });
}

// Rows are stretched once each and kept as long as later output rows look at them.
function blend(picture, width, height, columns, rows) {
  const pixels = new Uint8ClampedArray(width * height * 3);
  const kept = new Map();
  const settle = rows.taps === 2 ? settlePair : settleMany;
  for (let y = 0; y < height; y++) {
    const wanted = Array.from(rows.index.subarray(y * rows.taps, (y + 1) * rows.taps));
    for (const row of kept.keys()) if (row < wanted[0]) kept.delete(row);
    const lines = wanted.map((row) => {
      if (!kept.has(row)) kept.set(row, stretchRow(picture, row, width, columns));
      return kept.get(row);
    });
    settle(lines, rows.weight.subarray(y * rows.taps, (y + 1) * rows.taps), pixels.subarray(y * width * 3), rows.one ** 2);
  }
  return pixels;
}

function stretchRow({ data, width: size }, row, width, { taps, index, weight }) {
  const line = new Float64Array(width * 3);
  const start = row * size * 4;
  for (let x = 0, at = 0; x < width; x++, at += taps) {
    let red = 0, green = 0, blue = 0;
    for (let tap = at; tap < at + taps; tap++) {
      const from = start + index[tap] * 4;
      red += data[from] * weight[tap];
      green += data[from + 1] * weight[tap];
      blue += data[from + 2] * weight[tap];
    }
    line[x * 3] = red;
    line[x * 3 + 1] = green;
    line[x * 3 + 2] = blue;
  }
  return line;
}

// Two rows are blended in 16 bits, which drops the lowest four of each: part of what has to be equal.
function settlePair([upper, lower], [above, below], pixels) {
  for (let at = 0; at < upper.length; at++) {
    pixels[at] = (((above * (upper[at] >> 4)) >> 16) + ((below * (lower[at] >> 4)) >> 16) + 2) >> 2;
  }
}

function settleMany(lines, weights, pixels, whole) {
  for (let at = 0; at < lines[0].length; at++) {
    let sum = 0;
    for (let tap = 0; tap < weights.length; tap++) sum += lines[tap][at] * weights[tap];
    pixels[at] = whole === 1 ? roundEven(sum) : Math.floor(sum / whole + 0.5);
  }
}

// The source pixels under each output pixel, with the share of it that each covers; 1 each where `isWhole`.
function cover(count, size, scale, isWhole) {
  return Array.from({ length: count }, (_, place) => {
    const start = place * scale, end = Math.min(start + scale, size);
    const parts = [];
    for (let at = Math.floor(start); at < end; at++) {
      const share = Math.min(at + 1, end) - Math.max(at, start);
      if (share > 1e-3) parts.push([at, share]);
    }
    const whole = parts.reduce((total, [, share]) => total + share, 0);
    return parts.map(([at, share]) => [at, isWhole ? 1 : share / whole]);
  });
}

function average(picture, width, height, across, down) {
  const pixels = new Uint8ClampedArray(width * height * 3);
  const isWhole = Number.isInteger(across) && Number.isInteger(down);
  const round = across === 2 && down === 2 ? (sum) => (sum + 2) >> 2 : roundEven;
  // Whole blocks are summed up and multiplied once, by a float: that decides which way halves go.
  const factor = across === 2 && down === 2 ? 1 : Math.fround(1 / (across * down));
  const scale = isWhole ? (sum) => round(Math.fround(sum * factor)) : roundEven;
  const columns = cover(width, picture.width, across, isWhole), rows = cover(height, picture.height, down, isWhole);
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const sums = [0, 0, 0];
      for (const [y, high] of row) {
        for (const [x, wide] of column) {
          const from = (y * picture.width + x) * 4;
          for (let channel = 0; channel < 3; channel++) sums[channel] += picture.data[from + channel] * high * wide;
        }
      }
      for (const sum of sums) pixels[to++] = scale(sum);
    }
  }
  return pixels;
}
