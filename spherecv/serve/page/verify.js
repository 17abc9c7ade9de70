// The verify tab: two photos, one answer, and where it lies on its scale.

import { call, form } from "./api.js";
import { drawPoints, make, photoPlace } from "./photo.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const number = (value, digits = 3) => value.toFixed(digits);

export function setUpVerify(service) {
  const places = ["photo-a", "photo-b"].map((id) => photoPlace($(id), () => changed()));
  let running = null;
  let last = null;

  const far = $("verify-far");
  offerRates(far, service);

  const ready = () => places.every((place) => place.photo);
  const changed = () => {
    $("compare").disabled = !ready();
    $("verdict").hidden = true;
    running?.abort(); // its answer is about other photos
    say("");
    for (const place of places) if (place.photo) place.draw([]);
    if (ready()) compare();
  };

  async function compare() {
    running?.abort();
    const mine = (running = new AbortController());
    say("Comparing …");
    try {
      const [a, b] = places.map((place) => place.photo.blob);
      const body = form({ img1: a, img2: b, far: far.value, crops: "true" });
      const answer = await call("/v1/verify", { method: "POST", body, signal: mine.signal });
      if (mine.signal.aborted) return;
      say("");
      await show(answer);
    } catch (error) {
      if (error.name === "AbortError" || mine.signal.aborted) return;
      $("verdict").hidden = true;
      say(sentence(error), true);
    }
  }

  function say(text, bad = false) {
    $("verify-status").textContent = text;
    $("verify-status").classList.toggle("bad", bad);
  }

  async function show(answer) {
    last = answer;
    const sides = [answer.facial_areas.img1, answer.facial_areas.img2];
    places.forEach((place, side) => place.draw([sides[side]]));
    fill($("figures"), figuresOf(answer));
    const card = $("verdict");
    card.hidden = false;
    card.classList.toggle("same", answer.verified);
    card.classList.toggle("different", !answer.verified);
    $("verdict-word").textContent = answer.verified ? "✓ Same person" : "✕ Different people";
    drawScale($("scale"), answer);
    $("scale-text").textContent =
      `Distance ${number(answer.distance)}, ${answer.verified ? "at most" : "above"} the threshold ${number(answer.threshold)}.`;
    await drawCrops();
  }

  async function drawCrops() {
    const crops = [last.crops.img1, last.crops.img2];
    await Promise.all(crops.map((crop, side) => drawCrop($(side ? "crop-b" : "crop-a"), crop, $("show-landmarks").checked)));
  }

  new ResizeObserver(() => last && drawScale($("scale"), last)).observe($("scale"));
  $("compare").addEventListener("click", compare);
  far.addEventListener("change", () => ready() && compare());
  $("show-landmarks").addEventListener("change", () => last && drawCrops());
}

/** Fill a choice with the thresholds that are known, each by its false accept rate. */
export function offerRates(select, { threshold, rates }) {
  const rate = threshold?.far ? `: 1 false accept in ${inWords(threshold.far)}` : "";
  select.append(new Option(threshold ? `the service's own, ${number(threshold.value)}${rate}` : "none is known", ""));
  for (const one of rates) select.append(new Option(`for 1 false accept in ${inWords(one.far)}`, one.far));
}

async function drawCrop(canvas, crop, withLandmarks) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${crop.png}`;
  await picture.decode();
  const zoom = 3;
  canvas.width = picture.naturalWidth * zoom;
  canvas.height = picture.naturalHeight * zoom;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (withLandmarks && crop.landmarks) drawPoints(pen, crop.landmarks.map(([x, y]) => [(x + 0.5) * zoom, (y + 0.5) * zoom]), 6);
}

function figuresOf(answer) {
  const rows = [
    ["Distance", number(answer.distance), `${answer.similarity_metric}; similarity ${number(answer.similarity)}`],
    ["Threshold", number(answer.threshold), answer.threshold_source || "chosen by the operator"],
  ];
  rows.push(
    answer.far === null
      ? ["False accept rate", "not known", "nobody measured it for this threshold"]
      : ["False accept rate", percent(answer.far), `of ${inWords(answer.far)} pairs of different people about 1 would be called the same`],
  );
  rows.push(
    answer.probability === null
      ? ["Probability", "not known", "the service runs without a calibration"]
      : ["Probability", percent(answer.probability), `that it is one person, if ${percent(answer.prior)} of all pairs compared are`],
  );
  if (answer.notes.length) rows.unshift(["Note", told(answer.notes), ""]);
  return rows;
}

/** What to say below the figures: which of several faces was taken, which photos disagree. */
function told(notes) {
  return notes.map((note) => sentence({ message: note })).join(" ");
}

function fill(list, rows) {
  list.replaceChildren(
    ...rows.flatMap(([name, value, words]) => {
      const [term, text, strong] = [make("dt"), make("dd"), make("b")];
      term.textContent = name;
      strong.textContent = value;
      text.append(strong, words ? ` – ${words}` : "");
      return [term, text];
    }),
  );
}

function drawScale(svg, answer) {
  const whole = svg.clientWidth || 600;
  const [left, right, top, height] = [8, whole - 8, 46, 22];
  const most = answer.similarity_metric === "cosine" ? 1.5 : answer.threshold * 2; // the same for every pair
  const x = (value) => left + ((right - left) * Math.min(value, most)) / most;
  const put = (tag, attributes, text) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    svg.append(element);
    return element;
  };
  svg.replaceChildren();
  const limit = x(answer.threshold);
  const mark = x(answer.distance);
  put("rect", { class: "zone-same", x: left, y: top, width: limit - left, height });
  put("rect", { class: "zone-different", x: limit, y: top, width: right - limit, height });
  for (const [from, to, words] of [[left, limit, "same person"], [limit, right, "different people"]]) {
    if (to - from > 110) put("text", { class: "soft", x: (from + to) / 2, y: top + 16, "text-anchor": "middle" }, words);
  }
  put("line", { class: "limit", x1: limit, x2: limit, y1: top - 4, y2: top + height + 8 });
  const anchor = (at) => (at < 75 ? "start" : at > whole - 75 ? "end" : "middle");
  put("text", { class: "soft", x: limit, y: top + height + 22, "text-anchor": anchor(limit) }, `threshold ${number(answer.threshold)}`);
  put("text", { class: "soft", x: left, y: top + height + 40 }, "0: the same image");
  put("path", { class: "mark", d: `M${mark} ${top + 6} l-9 -16 h18 z` });
  put("text", { x: mark, y: top - 16, "text-anchor": anchor(mark), "font-weight": 600 }, `distance ${number(answer.distance)}`);
}

function inWords(rate) {
  return Math.round(1 / rate).toLocaleString("en");
}

function percent(share) {
  const value = share * 100;
  if (value > 99.95 && value < 100) return "over 99.9 %";
  return `${value >= 1 ? value.toFixed(1) : value.toPrecision(1)} %`;
}

export function sentence(error) {
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  return text.replace(/\bimg1\b/, "the first photo").replace(/\bimg2\b/, "the second photo").replace(/\bimg\b/, "the photo");
}
