// The frame of the page: tabs, notices, the key.

import { call, key, onMissingKey } from "./api.js";
import { setUpCamera } from "./camera.js";
import { setUpGallery } from "./gallery.js";
import { setLimits } from "./photo.js";
import { sentence, setUpVerify } from "./verify.js";

const $ = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];
const panels = {};

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function open(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    const was = other.getAttribute("aria-selected") === "true";
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !chosen;
    if (was && !chosen) panels[other.id]?.closed?.();
  }
  notice("");
  panels[tab.id]?.opened?.();
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = tabs[(steps[event.key] + tabs.length) % tabs.length];
    next.focus();
    open(next);
  });
});

let asking = null;
function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = $("key");
    dialog.returnValue = "cancel";
    dialog.onclose = () => {
      asking = null;
      const given = dialog.returnValue === "ok" ? $("key-value").value.trim() : "";
      $("key-value").value = "";
      if (given) key.set(given);
      resolve(Boolean(given));
    };
    $("key-open").hidden = false;
    dialog.showModal();
  });
  return asking;
}
onMissingKey(askForKey);
$("key-open").addEventListener("click", async () => {
  if ((await askForKey()) && !document.documentElement.dataset.ready) await setUp();
});
$("key-open").hidden = !key.get();

// A file dropped beside its place would replace the page.
for (const event of ["dragover", "drop"]) window.addEventListener(event, (happening) => happening.preventDefault());

async function setUp() {
  let service;
  try {
    service = await call("/v1/models");
  } catch (error) {
    return notice(sentence(error));
  }
  notice("");
  setLimits(service.limits);
  setUpVerify(service);
  panels["tab-gallery"] = setUpGallery(service, notice);
  panels["tab-camera"] = setUpCamera(service);
  panels[document.querySelector("[role=tab][aria-selected=true]").id]?.opened?.();
  $("about").textContent =
    `Model ${service.model}, detector ${service.detector_backend}, ${service.similarity_metric} distance, SphereCV ${service.version}.`;
  if (!service.threshold) {
    notice("No threshold is known for this model: the service can find and embed faces, but not decide. The operator can give one: spherecv serve --threshold …");
  }
  document.documentElement.dataset.ready = "true";
}
await setUp();
