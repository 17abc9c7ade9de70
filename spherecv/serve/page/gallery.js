// The gallery tab: people come in, are asked for, and go.

import { call, form } from "./api.js";
import { make, photoPlace, readPhoto, takePhoto } from "./photo.js";
import { offerRates, sentence } from "./verify.js";

const $ = (id) => document.getElementById(id);
const address = (name) => `/v1/gallery/${encodeURIComponent(name)}`;
const PAGE = 50;

export function setUpGallery(service, notice) {
  if (!service.gallery) {
    $("gallery-none").hidden = false;
    $("gallery-some").hidden = true;
    return { opened() {} };
  }
  $("enrol").hidden = service.read_only;
  $("gallery-fixed").hidden = !service.read_only;
  let taken = [];
  let next = null;
  let listing = null;
  let enrolling = false;

  const say = (id, text, bad = false) => {
    $(id).textContent = text;
    $(id).classList.toggle("bad", bad);
  };

  async function list(after) {
    const query = new URLSearchParams({ limit: PAGE });
    if (after) query.set("after", after);
    const mine = (listing = {});
    const page = await call(`/v1/gallery?${query}`);
    if (listing !== mine) return; // asked for anew meanwhile
    const body = $("people").tBodies[0];
    if (!after) body.replaceChildren();
    body.append(...page.people.map(lineOf));
    next = page.next;
    $("people").hidden = !page.identities;
    $("people-empty").hidden = Boolean(page.identities);
    $("people-more").hidden = !next;
    $("people-count").textContent = page.identities ? `– ${several(page.identities, "person", "people")}, ${several(page.faces, "face")}` : "";
  }

  const refresh = () => list().catch((error) => notice(sentence(error)));

  function lineOf(person) {
    const row = make("tr");
    const [name, photos, actions] = [make("td"), make("td"), make("td")];
    const isolated = make("bdi");
    isolated.textContent = person.identity;
    name.append(isolated);
    photos.textContent = person.images;
    if (!service.read_only) actions.append(action("Rename", person.identity, rename), action("Remove", person.identity, remove, "danger"));
    row.append(name, photos, actions);
    return row;
  }

  function action(word, name, act, className) {
    const button = make("button", className);
    button.type = "button";
    button.textContent = word;
    button.setAttribute("aria-label", `${word} ${name}`);
    button.addEventListener("click", () => act(name).catch((error) => notice(sentence(error))));
    return button;
  }

  async function remove(name) {
    const answer = await ask(`Remove ${name}?`, "Every number that was kept of this person is erased from the disk.", "Remove");
    if (answer === null) return;
    const gone = await call(address(name), { method: "DELETE" });
    const later = gone.erased ? "" : " Another program still reads an older state of the file: the bytes go when it is done.";
    notice(`${name} is forgotten: ${several(gone.faces, "face")} of ${several(gone.images, "photo")}.${later}`);
    await list();
  }

  async function rename(name) {
    const wanted = (await ask(`Rename ${name}`, "", "Rename", name))?.trim();
    if (!wanted || wanted === name) return;
    try {
      await call(address(name), { method: "PATCH", body: { identity: wanted } });
    } catch (error) {
      if (error.kind !== "exists") throw error;
      const merge = await ask(`${wanted} is known already`, `Make ${name} and ${wanted} one person?`, "Make them one");
      if (merge === null) return;
      await call(address(name), { method: "PATCH", body: { identity: wanted, merge: true } });
    }
    await list();
  }

  const chosen = () => [...$("enrol-files").files, ...taken];
  const count = () => say("enrol-count", chosen().length ? several(chosen().length, "photo") : "");
  $("enrol-files").addEventListener("change", count);
  $("enrol-take").addEventListener("click", async () => {
    const blob = await takePhoto();
    $("enrol-take").focus();
    if (blob) taken.push(blob);
    count();
  });
  $("enrol").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (enrolling) return;
    const files = chosen();
    if (!files.length) return say("enrol-status", "Choose at least one photo.", true);
    if (files.length > service.limits.max_images) return say("enrol-status", `At most ${service.limits.max_images} photos at once.`, true);
    say("enrol-status", "Enrolling …");
    enrolling = true;
    try {
      const img = [];
      for (const file of files) { // one after another: opened all at once they would fill a phone
        const { blob, bitmap } = await readPhoto(file);
        bitmap.close();
        img.push(blob);
      }
      const fields = { identity: $("enrol-name").value.trim(), if_exists: $("enrol-exists").value, img };
      const done = await call("/v1/gallery", { method: "POST", body: form(fields) });
      const known = done.unchanged ? `, ${done.unchanged} known already` : "";
      const crowded = done.several_faces.length ? ` Several faces on ${several(done.several_faces.length, "photo")}: the largest was taken.` : "";
      const doubts = done.doubts.length ? ` ${done.doubts.join(" ")}` : "";
      say("enrol-status", `Enrolled ${done.identity}: ${several(done.faces, "new face")}${known}.${crowded}${doubts}`, Boolean(doubts));
      $("enrol").reset();
      taken = [];
      count();
      await refresh();
    } catch (error) {
      say("enrol-status", sentence(error), true);
    } finally {
      enrolling = false;
    }
  });

  offerRates($("who-far"), service);
  $("who-far").addEventListener("change", () => who.photo && asked(who));
  const asked = async (place) => {
    const { photo } = place;
    say("who-status", "Looking …");
    $("who").replaceChildren();
    try {
      const { matches } = await call("/v1/identify", { method: "POST", body: form({ img: photo.blob, far: $("who-far").value }) });
      if (place.photo !== photo) return; // names belong to the photo that was asked about
      place.draw(matches.map((match, index) => ({ ...match.face, label: `${index + 1} ${match.identity ?? ""}` })));
      $("who").replaceChildren(...matches.map(matchLine));
      say("who-status", chances(matches[0]));
    } catch (error) {
      if (place.photo === photo) say("who-status", sentence(error), true);
    }
  };
  const who = photoPlace($("photo-who"), asked);
  $("people-more").addEventListener("click", () => list(next).catch((error) => notice(sentence(error))));
  return { opened: refresh, who };
}

/** What the gallery's size does to the false accept rate. */
function chances(match) {
  if (match?.fpir === null || match?.fpir === undefined) return "";
  const share = match.fpir * 100;
  return `With the ${several(match.people, "person", "people")} enrolled, about ${share >= 1 ? share.toFixed(0) : share.toPrecision(1)} % of strangers are given a name.`;
}

function several(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** A line that says who a face is of, and how near. */
export function matchLine(match) {
  const line = make("li");
  const name = make("bdi");
  const near = match.candidates[0];
  name.textContent = match.identity ?? "nobody known";
  if (match.identity) {
    const strong = make("b");
    strong.append(name);
    line.append(strong, ` – distance ${match.distance.toFixed(3)}, threshold ${match.threshold.toFixed(3)}`);
  } else {
    line.className = "nobody";
    line.append(name);
    if (near) {
      const other = make("bdi");
      other.textContent = near.identity;
      line.append(" – nearest is ", other, ` at ${near.distance.toFixed(3)}, beyond the threshold ${match.threshold.toFixed(3)}`);
    }
  }
  return line;
}

/** Ask; resolves to null for no, else to the text, which is empty where none was asked for. */
function ask(title, text, yes, value) {
  const dialog = $("ask");
  const before = document.activeElement;
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-ok").textContent = yes;
  $("ask-label").hidden = value === undefined;
  $("ask-value").value = value ?? "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      if (before?.isConnected) before.focus();
      resolve(dialog.returnValue === "ok" ? $("ask-value").value : null);
    };
  });
}
