// The calls of the service, from its own OpenAPI document, each with a form to try it.

import { key } from "./api.js";
import { make } from "./photo.js";

const $ = (id) => document.getElementById(id);

function text(tag, words, className) {
  const element = make(tag, className);
  element.textContent = words ?? "";
  return element;
}

function resolve(documented, schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? documented.components.schemas[name] : schema ?? {};
}

const isImage = (schema) =>
  schema.contentEncoding === "base64" || schema.format === "binary" || (schema.anyOf ?? []).some(isImage) || Boolean(schema.items && isImage(schema.items));
const choices = (schema) => schema.enum ?? (schema.anyOf ?? []).map(choices).find((found) => found);
const isWord = (schema) => schema.type === "string" || Boolean(choices(schema));

function inputFor(name, schema, needed) {
  const label = make("label");
  const input = choices(schema) ? make("select") : make("input");
  if (choices(schema)) {
    for (const value of choices(schema)) input.append(new Option(value, value, value === schema.default, value === schema.default));
  } else if (isImage(schema)) {
    input.type = "file";
    input.accept = "image/*";
    input.multiple = JSON.stringify(schema).includes('"array"');
  } else if (schema.default !== undefined && schema.default !== null) {
    input.placeholder = JSON.stringify(schema.default);
  }
  input.required = needed;
  input.name = name;
  label.append(`${name}${needed ? " (needed)" : ""}`, input);
  if (schema.description) label.append(text("span", schema.description, "hint"));
  return label;
}

function bodyOf(documented, operation) {
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  return schema ? resolve(documented, schema) : null;
}

/** What the fields of a form say: files for images, words as they are, other values as JSON. */
function requestOf(form, path, method, body) {
  let address = path;
  const query = new URLSearchParams();
  const data = new FormData();
  const plain = {};
  let files = false;
  for (const input of form.querySelectorAll("[name]")) {
    const where = input.dataset.in;
    if (where === "body" && input.type === "file") {
      for (const file of input.files) data.append(input.name, file);
      files = files || input.files.length > 0;
      continue;
    }
    const value = input.value.trim();
    if (!value) continue;
    if (where === "path") address = address.replace(`{${input.name}}`, encodeURIComponent(value));
    else if (where === "query") query.set(input.name, value);
    else {
      data.append(input.name, value);
      plain[input.name] = isWord(body.properties[input.name]) ? value : JSON.parse(value);
    }
  }
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const options = { method: method.toUpperCase(), headers };
  if (files) options.body = data;
  else if (body) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(plain);
  }
  return [query.size ? `${address}?${query}` : address, options];
}

function callOf(documented, path, method, operation) {
  const call = make("details", "card");
  const head = make("summary");
  head.append(text("b", `${method.toUpperCase()} ${path}`), ` – ${operation.summary ?? ""}`);
  const form = make("form");
  const body = bodyOf(documented, operation);
  for (const parameter of operation.parameters ?? []) {
    const label = inputFor(parameter.name, { description: parameter.description, ...resolve(documented, parameter.schema) }, parameter.required);
    label.querySelector("[name]").dataset.in = parameter.in;
    form.append(label);
  }
  for (const [name, schema] of Object.entries(body?.properties ?? {})) {
    const label = inputFor(name, resolve(documented, schema), (body.required ?? []).includes(name));
    label.querySelector("[name]").dataset.in = "body";
    form.append(label);
  }
  const send = text("button", "Try it", "main");
  const status = text("p", "", "status");
  const answer = text("pre", "");
  status.setAttribute("role", "status");
  form.append(send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    status.textContent = "Asking …";
    answer.textContent = "";
    try {
      const started = performance.now();
      const response = await fetch(...requestOf(form, path, method, body));
      const said = await response.text();
      status.textContent = `${response.status} ${response.statusText}, ${Math.round(performance.now() - started)} ms`;
      answer.textContent = response.headers.get("content-type")?.includes("json") ? JSON.stringify(JSON.parse(said), null, 1) : said;
    } catch (error) {
      status.textContent = error instanceof SyntaxError ? `A value is not JSON: ${error.message}` : "The service cannot be reached.";
    }
  });
  call.append(head, text("p", operation.description ?? ""), form, status, answer);
  return call;
}

const documented = await (await fetch("/openapi.json")).json();
$("about").textContent = documented.info.description ?? "";
if (documented.components?.securitySchemes) {
  $("key-row").hidden = false;
  $("key-value").value = key.get();
  $("key-value").addEventListener("change", () => key.set($("key-value").value.trim()));
}
for (const [path, operations] of Object.entries(documented.paths)) {
  for (const [method, operation] of Object.entries(operations)) $("calls").append(callOf(documented, path, method, operation));
}
document.documentElement.dataset.ready = "true";
