// The page to try a model on: pictures or the camera for tasks of pictures, JSON for the others.

import { open } from "./model/engine.js";
import { postprocess, preprocess, spec } from "./ferryman.js";

const at = (id) => document.getElementById(id);
let session = null, shown = null;

async function read(name) {
  const answer = await fetch(new URL(`model/${name}`, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

/** Load the model, once. */
export async function load() {
  session ??= open(read);
  return session;
}

/** Answer one item: {answer, ms: {prepare, model, finish}}. A picture is {data: RGBA, width, height}. */
export async function ask(item) {
  const engine = await load();
  const begun = performance.now();
  const batch = preprocess([item]);
  const prepared = performance.now();
  const outputs = await engine.infer(batch.inputs);
  const inferred = performance.now();
  const [answer] = postprocess(outputs, batch);
  return { answer, ms: { prepare: prepared - begun, model: inferred - prepared, finish: performance.now() - inferred } };
}

function say(text, isBad = false) {
  at("status").textContent = text;
  at("status").className = isBad ? "bad" : "soft";
}

/** Tell what went wrong, and take away what was shown of another item. */
function fail(error) {
  shown = null;
  for (const name of ["canvas", "answer", "times"]) at(name).hidden = true;
  at("hint").hidden = false;
  at("found").replaceChildren();
  say(`That didn't work: ${error.message}`, true);
}

function colour(number) {
  return `hsl(${(number * 137.5 + 205) % 360} 70% 45%)`;
}

function showTimes(ms) {
  at("times").hidden = false;
  for (const [name, value] of Object.entries(ms)) at(name).textContent = `${value.toFixed(1)} ms`;
}

async function showPicture(source, width, height) {
  const canvas = at("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(source, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height);
  const { answer, ms } = await ask(pixels);
  shown = { pixels, answer };
  showTimes(ms);
  draw();
}

function draw() {
  if (shown === null) return;
  const { pixels, answer } = shown;
  const canvas = at("canvas"), pen = canvas.getContext("2d");
  at("hint").hidden = true;
  canvas.hidden = false;
  pen.putImageData(pixels, 0, 0);
  const least = Number(at("least").value);
  const lines = answer.scores.map((score, place) => ({ score, label: answer.labels[place], number: answer.classes[place], box: answer.boxes?.[place] }))
    .filter(({ box, score }) => !box || score >= least);
  for (const line of lines) if (line.box) drawBox(pen, line, Math.max(pixels.width, pixels.height) / 320);
  list(lines);
}

function drawBox(pen, { box: [left, top, right, bottom], label, score, number }, unit) {
  const text = `${label} ${score.toFixed(2)}`, size = Math.max(12, 7 * unit);
  pen.lineWidth = Math.max(2, unit);
  pen.strokeStyle = pen.fillStyle = colour(number);
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + size * 0.6, above = Math.max(top - size * 1.4, 0);
  pen.fillRect(left, above, width, size * 1.4);
  pen.fillStyle = "#fff";
  pen.fillText(text, left + size * 0.3, above + size * 1.05);
}

function list(lines) {
  at("found").replaceChildren(...lines.map(({ label, score, number }) => {
    const [line, name, value, bar] = ["li", "b", "span", "i"].map((tag) => document.createElement(tag));
    [name.textContent, value.textContent] = [label, score.toFixed(3)];
    bar.style.cssText = `width: ${Math.max(0, Math.min(score, 1)) * 100}%; --swatch: ${colour(number)}`;
    line.append(name, value, bar);
    return line;
  }));
  say(lines.length ? `${lines.length} found` : "Nothing found from this score on.");
}

async function showFile(file) {
  try {
    say("Looking ...");
    const picture = await createImageBitmap(file); // upright, as its EXIF says
    await showPicture(picture, picture.width, picture.height);
  } catch (error) {
    fail(error);
  }
}

async function followCamera() {
  const video = at("video"), button = at("camera");
  if (video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    button.textContent = "Use the camera";
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    button.textContent = "Stop the camera";
    await video.play();
    while (video.srcObject) {
      await showPicture(video, video.videoWidth, video.videoHeight);
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    say(`No camera: ${error.message}`, true);
  }
}

async function showText(event) {
  event.preventDefault();
  try {
    const { answer, ms } = await ask(JSON.parse(at("text").value));
    at("answer").textContent = JSON.stringify(answer, null, 1);
    at("answer").hidden = false;
    showTimes(ms);
    say("Answered.");
  } catch (error) {
    fail(error);
  }
}

function listen() {
  at("file").onchange = ({ target }) => target.files[0] && showFile(target.files[0]);
  at("camera").onclick = followCamera;
  at("texts").onsubmit = showText;
  at("least").oninput = () => { at("least-shown").textContent = Number(at("least").value).toFixed(2); draw(); };
  const drop = at("drop");
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => { event.preventDefault(); drop.classList.remove("over"); if (event.dataTransfer.files[0]) showFile(event.dataTransfer.files[0]); };
}

async function start() {
  const isPicture = "input" in spec;
  at("least").value = spec.showScore ?? 0;
  at("least-shown").textContent = (spec.showScore ?? 0).toFixed(2);
  at("least-row").hidden = spec.kind !== "detect";
  if (!isPicture) at("text").value = example();
  listen();
  try {
    await load();
    at(isPicture ? "pictures" : "texts").hidden = false;
    say("Ready.");
  } catch (error) {
    say(`The model can't be loaded: ${error.message}`, true);
  }
}

function example() {
  if (spec.table) return JSON.stringify(Object.fromEntries((spec.table.columns ?? []).map((column) => [column, 0])), null, 1);
  const zeros = ([side, ...rest]) => (side === undefined ? 0 : Array.from({ length: typeof side === "number" ? side : 1 }, () => zeros(rest)));
  const size = (shape) => shape.reduce((total, side) => total * (typeof side === "number" ? side : 1), 1);
  return JSON.stringify(Object.fromEntries(spec.inputs.map(({ name, shape }) => [name, size(shape) > 1000 ? [] : zeros(shape)])), null, 1);
}

if (typeof document !== "undefined") start();
