// Calls to the service this page came from.

const KEY = "spherecv-key";

export class Refusal extends Error {
  constructor(problem, status, wait) {
    super(problem.detail || `The service answered ${status}.`);
    this.kind = String(problem.type || "").split(":").pop();
    this.status = status;
    this.wait = wait;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

let askForKey = async () => false;

/** Say how a key is asked for: a function that resolves to whether there is a new one. */
export function onMissingKey(ask) {
  askForKey = ask;
}

/** Call the service; FormData or a plain object as the body. Resolves to its answer, rejects with a Refusal. */
export async function call(path, { method = "GET", body, signal } = {}) {
  for (;;) {
    const headers = {};
    const sent = key.get();
    if (sent) headers.Authorization = `Bearer ${sent}`;
    let content = body;
    if (body && !(body instanceof FormData)) {
      headers["Content-Type"] = "application/json";
      content = JSON.stringify(body);
    }
    let response;
    try {
      response = await fetch(path, { method, headers, body: content, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal({ detail: "The service cannot be reached: is it still running?", type: ":unreachable" }, 0);
    }
    if (response.status === 401 && (key.get() !== sent || (await askForKey()))) continue;
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    throw new Refusal(answer, response.status, Number(response.headers.get("Retry-After")) || 0);
  }
}

/** Make a form of fields; a Blob becomes a file, lists become several fields of one name. */
export function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item instanceof Blob) data.append(name, item, "photo");
      else if (item !== undefined && item !== null && item !== "") data.append(name, String(item));
    }
  }
  return data;
}
