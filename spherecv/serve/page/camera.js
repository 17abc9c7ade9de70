// The camera tab. While a face is there, frame after frame is sent, each when the answer to the last has come; while none
// is, a frame that has changed is looked through for one, at most once a second.

import { call, form } from "./api.js";
import { matchLine } from "./gallery.js";
import { drawFaces, jpegOf, make, openCamera } from "./photo.js";
import { sentence } from "./verify.js";

const $ = (id) => document.getElementById(id);
const WIDTH = 640;
const LOOK_SECONDS = 1;
const LOOK_AGAIN_SECONDS = 10; // at an unchanged image too: the service may have missed somebody
const SMALL = [32, 24];
const CHANGE = 12; // of 255, in any cell of the small image: beyond a camera's noise, which a cell averages out
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export function setUpCamera(service) {
  const video = $("camera-video");
  const overlay = $("camera-overlay");
  const frame = document.createElement("canvas");
  const small = document.createElement("canvas");
  [small.width, small.height] = SMALL;
  let close = null;
  let starting = null;

  const say = (text, bad = false) => {
    $("camera-status").textContent = text;
    $("camera-status").classList.toggle("bad", bad);
  };
  const stage = overlay.parentElement;
  const mirror = () => stage.classList.toggle("mirror", $("camera-mirror").checked);
  if (!service.gallery) {
    $("camera-task").value = "detect";
    $("camera-task").querySelector("[value=identify]").disabled = true;
  }

  async function start() {
    if (starting) return;
    const mine = (starting = {});
    try {
      const opened = await openCamera(video);
      if (starting !== mine) return opened(); // left while the browser asked for leave
      close = opened;
      stage.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
      $("camera-start").textContent = "Stop the camera";
      say("");
      watch(close);
    } catch (error) {
      if (starting === mine) say(error.message, true);
    } finally {
      if (starting === mine) starting = null;
    }
  }

  function stop() {
    close?.();
    close = starting = null;
    $("camera-start").textContent = "Start the camera";
    overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
    $("camera-faces").replaceChildren();
    say("");
  }

  async function watch(mine) {
    const [track] = video.srcObject.getTracks();
    let seconds = 0;
    let present = false;
    let empty = null; // the last frame on which nobody was, and when
    while (close === mine) {
      if (track.readyState === "ended") {
        stop();
        return say("The camera was taken away.", true);
      }
      const started = performance.now();
      const cells = present ? null : glance();
      if (empty && cells && started - empty.at < LOOK_AGAIN_SECONDS * 1000 && !changed(empty.cells, cells)) {
        await pause(0.2);
        continue;
      }
      try {
        const faces = await look(await grab(), present ? $("camera-task").value : "detect");
        if (close !== mine) return;
        draw(faces);
        if (!present && faces.length) {
          [present, empty, seconds] = [true, null, 0];
          continue; // who it is, is asked of the next frame
        }
        present = faces.length > 0;
        const took = (performance.now() - started) / 1000;
        seconds = seconds ? 0.8 * seconds + 0.2 * took : took;
        if (present) {
          say(`${faces.length === 1 ? "1 face" : `${faces.length} faces`}, ${(1 / seconds).toFixed(1)} frames a second`);
        } else {
          say("No face yet: frames are sent only when something changes.");
          empty = { cells: cells ?? glance(), at: started };
          await pause(LOOK_SECONDS);
        }
      } catch (error) {
        if (close !== mine) return;
        if (error.status === 401) stop(); // a person who gives no key is not asked with every frame
        say(sentence(error), true);
        await pause(error.wait || 1);
      }
      await pause(0.01);
      while (document.hidden && close === mine) await pause(0.5);
    }
  }

  function grab() {
    const scale = Math.min(1, WIDTH / video.videoWidth);
    frame.width = Math.round(video.videoWidth * scale);
    frame.height = Math.round(video.videoHeight * scale);
    frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
    return jpegOf(frame, 0.85);
  }

  /** What the camera sees now, in few cells. */
  function glance() {
    const context = small.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(video, 0, 0, ...SMALL);
    return context.getImageData(0, 0, ...SMALL).data;
  }

  async function look(img, task) {
    if (task === "detect") {
      const { faces } = await call("/v1/detect", { method: "POST", body: form({ img }) });
      return faces.map((face) => ({ face, label: "" }));
    }
    try {
      const { matches } = await call("/v1/identify", { method: "POST", body: form({ img, k: 1 }) });
      return matches.map((match) => ({ face: match.face, label: match.identity ?? "?", match }));
    } catch (error) {
      if (error.kind === "no-face") return [];
      throw error;
    }
  }

  function draw(faces) {
    overlay.width = frame.width;
    overlay.height = frame.height;
    const mirrored = $("camera-mirror").checked ? overlay.width : 0;
    drawFaces(overlay.getContext("2d"), faces.map(({ face, label }) => ({ ...face, label })), 1, mirrored);
    $("camera-faces").replaceChildren(...faces.map(({ match, face }) => (match ? matchLine(match) : faceLine(face))));
  }

  $("camera-start").addEventListener("click", () => (close ? stop() : start()));
  $("camera-mirror").addEventListener("change", mirror);
  mirror();
  return { closed: stop };
}

function changed(before, now) {
  return now.some((value, place) => Math.abs(value - before[place]) > CHANGE);
}

function faceLine(face) {
  const line = make("li");
  const quality = face.quality === null ? "" : `, quality ${face.quality.toFixed(2)}`;
  line.textContent = `face, score ${face.score.toFixed(3)}${quality}`;
  return line;
}
