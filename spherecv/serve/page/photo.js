// Photos: choosing, dropping, pasting, taking them with a camera, and drawing what was found on them.

const SENDABLE = ["image/jpeg", "image/png", "image/webp"];
const limits = { bytes: 12e6, pixels: 12e6 };

/** Heed the service's own limits. */
export function setLimits({ max_body_bytes: bytes, max_pixels: pixels }) {
  limits.bytes = Math.min(limits.bytes, bytes * 0.45);
  limits.pixels = Math.min(limits.pixels, pixels);
}

/** Read a file into { blob, bitmap }: as it is if the service takes it so, else smaller and as JPEG. */
export async function readPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "This file"} is not an image that this browser can open.`);
  }
  const pixels = bitmap.width * bitmap.height;
  if (SENDABLE.includes(file.type) && file.size <= limits.bytes && pixels <= limits.pixels) return { blob: file, bitmap };
  const scale = Math.min(1, Math.sqrt(Math.min(limits.pixels, 6e6) / pixels));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { blob: await jpegOf(canvas, 0.92), bitmap: await createImageBitmap(canvas) };
}

export function jpegOf(canvas, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The image cannot be encoded."))), "image/jpeg", quality);
  });
}

/** Open the camera; rejects with a sentence for people. */
export async function openCamera(video) {
  if (!navigator.mediaDevices) throw new Error("The camera needs an address with https, or localhost.");
  let stream = null;
  const close = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    if (video.srcObject === stream) video.srcObject = null;
  };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
    video.srcObject = stream;
    await video.play();
    return close;
  } catch (error) {
    close(); // it may be open, and only not play
    const words = { NotAllowedError: "The browser does not allow the camera here.", NotFoundError: "There is no camera." };
    throw new Error(words[error.name] || "The camera cannot be opened: another program may be using it.");
  }
}

/** Let the user take a photo; resolves to a Blob, or null. */
export async function takePhoto() {
  const dialog = document.getElementById("shot");
  const video = document.getElementById("shot-video");
  const fault = document.getElementById("shot-error");
  const take = document.getElementById("shot-take");
  let close = () => {};
  fault.textContent = "";
  take.disabled = true;
  dialog.showModal();
  const taken = new Promise((resolve) => {
    take.onclick = async () => {
      const canvas = document.createElement("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      resolve(await jpegOf(canvas, 0.95));
      dialog.close();
    };
    document.getElementById("shot-cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(null);
  });
  try {
    close = await openCamera(video);
    take.disabled = !dialog.open;
    take.focus();
  } catch (error) {
    fault.textContent = error.message;
  }
  const blob = await taken;
  close();
  return blob;
}

/** Turn an empty element into a place for a photo. `changed` is told of every new one. */
export function photoPlace(element, changed) {
  const label = element.dataset.label;
  const view = make("div", "view");
  const empty = make("p", "empty");
  empty.textContent = `${label}: drop it here, choose it or take it`;
  const canvas = make("canvas");
  canvas.hidden = true;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  view.append(empty, canvas);
  const input = make("input");
  input.type = "file";
  input.accept = "image/*";
  input.id = `${element.id}-file`;
  const choose = make("label", "choose");
  choose.htmlFor = input.id;
  choose.append("Choose a photo", hidden(` – ${label.toLowerCase()}`));
  const take = make("button");
  take.type = "button";
  take.append("Take one", hidden(` – ${label.toLowerCase()}`));
  const status = make("span", "status bad");
  status.setAttribute("role", "alert");
  const row = make("div", "row");
  row.append(input, choose, take, status);
  element.append(view, row);

  let latest = null; // a large photo may take longer to open than the one chosen after it
  const place = {
    photo: null,
    async set(file) {
      latest = file;
      status.textContent = "";
      let photo;
      try {
        photo = await readPhoto(file);
      } catch (error) {
        if (latest === file) status.textContent = error.message;
        return;
      }
      if (latest !== file) return photo.bitmap.close();
      place.photo?.bitmap.close();
      place.photo = photo;
      place.draw([]);
      changed(place);
    },
    draw(faces) {
      const { bitmap } = place.photo;
      empty.hidden = true;
      element.classList.add("filled");
      canvas.hidden = false;
      const scale = Math.min(1, 1200 / Math.max(bitmap.width, bitmap.height));
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      const pen = canvas.getContext("2d");
      pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      drawFaces(pen, faces, scale);
    },
  };
  input.addEventListener("change", () => input.files.length && place.set(input.files[0]));
  take.addEventListener("click", async () => {
    const blob = await takePhoto();
    take.focus();
    if (blob) place.set(blob);
  });
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    if (event.dataTransfer.files.length) place.set(event.dataTransfer.files[0]);
  });
  return place;
}

/** Draw boxes, landmarks and labels; faces are { box, landmarks, label }, in pixels of the image. */
export function drawFaces(pen, faces, scale, mirroredWidth = 0) {
  const style = getComputedStyle(document.documentElement);
  const line = Math.max(2, Math.max(pen.canvas.width, pen.canvas.height) / 350);
  const at = (x) => (mirroredWidth ? mirroredWidth - x * scale : x * scale);
  for (const { box, landmarks, label } of faces) {
    const [x1, x2] = [at(box[0]), at(box[2])].sort((a, b) => a - b);
    const [y1, y2] = [box[1] * scale, box[3] * scale];
    pen.lineWidth = line;
    pen.strokeStyle = style.getPropertyValue("--box");
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    drawPoints(pen, (landmarks || []).map(([x, y]) => [at(x), y * scale]), Math.max(2.5, (x2 - x1) / 40));
    if (!label) continue;
    const size = Math.max(13, Math.max(pen.canvas.width, pen.canvas.height) / 30, Math.min(30, (x2 - x1) / 6));
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const text = label.length > 40 ? `${label.slice(0, 39)}…` : label;
    const width = pen.measureText(text).width + size * 0.6;
    const top = y1 - size * 1.4 >= 0 ? y1 - size * 1.4 : y2;
    pen.fillStyle = style.getPropertyValue("--box");
    pen.fillRect(x1 - line / 2, top, width, size * 1.4);
    pen.fillStyle = "#1b2027";
    pen.fillText(text, x1 + size * 0.3 - line / 2, top + size * 1.05);
  }
}

export function drawPoints(pen, points, radius) {
  for (const [x, y] of points) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--point");
    pen.fill();
    pen.lineWidth = radius / 3;
    pen.strokeStyle = "#00222e";
    pen.stroke();
  }
}

export function make(tag, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return element;
}

function hidden(text) {
  const span = make("span", "visually-hidden");
  span.textContent = text;
  return span;
}
