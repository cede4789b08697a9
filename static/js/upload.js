// Sends slides in pieces (tus 1.0), goes on where it stopped, and hands over to the upload's page.

const CHUNK_BYTES = 16 * 2 ** 20;
const AT_ONCE = 3;
const RETRY_DELAYS = [0, 1000, 3000, 5000, 10000, 20000];
const LISTED = 200;
const PACE_MS = 15000;
const REMEMBERED = "pathsearch-upload-";

const form = document.querySelector("[data-upload-form]");
const part = (name) => form.querySelector(`[data-${name}]`);
const api = form.dataset.apiUrl;
const csrf = form.querySelector("[name=csrfmiddlewaretoken]").value;
const words = part("sending").dataset; // what this page says, in the language of the page

let chosen = []; // {file, name}; name keeps the folder: formats of several files need it
let running = []; // tus uploads that send now
let isSending = false;
let isPaused = false;

// --- choosing ----------------------------------------------------------------------------------

/** Return all files below a dropped entry with their folders. */
async function filesOf(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const found = [];
  // A folder is given out in portions, until one is empty.
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return found;
    for (const inner of entries) found.push(...(await filesOf(inner)));
  }
}

function add(files) {
  const known = new Set(chosen.map(({ name, file }) => `${name}|${file.size}`));
  for (const one of files) if (!known.has(`${one.name}|${one.file.size}`)) chosen.push(one);
  showChosen();
}

function showChosen() {
  const list = part("chosen-list");
  list.replaceChildren(
    ...chosen.slice(0, LISTED).map(({ name, file }) => {
      const row = document.createElement("li");
      const label = document.createElement("span");
      label.className = "name";
      label.textContent = name;
      const size = document.createElement("span");
      size.className = "muted nowrap";
      size.textContent = readable(file.size);
      row.append(label, size);
      return row;
    }),
  );
  const total = chosen.reduce((sum, { file }) => sum + file.size, 0);
  part("chosen-sum").textContent = `${chosen.length === 1 ? words.file : words.files.replace("{count}", chosen.length)}, ${readable(total)}`;
  part("chosen").hidden = !chosen.length;
  part("send").disabled = !chosen.length || isSending;
}

function readable(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${bytes.toFixed(unit && bytes < 100 ? 1 : 0)} ${units[unit]}`;
}

const drop = part("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("is-over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("is-over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("is-over");
  if (isSending) return;
  // The entries must be taken before the first await, afterwards they are gone.
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.());
  const plain = items.map((item) => item.getAsFile());
  try {
    for (const [index, entry] of entries.entries()) {
      if (entry) add(await filesOf(entry));
      else if (plain[index]) add([{ file: plain[index], name: plain[index].name }]);
    }
  } catch {
    showError(words.unread);
  }
});
// Files dropped beside the field must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
for (const input of form.querySelectorAll("[data-pick]")) {
  input.addEventListener("change", () => {
    add([...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
    input.value = "";
  });
}
part("clear").addEventListener("click", () => {
  chosen = [];
  showChosen();
});

// --- talking to the API ------------------------------------------------------------------------

class Problem extends Error {}

async function call(method, url, body) {
  const response = await fetch(url, {
    method,
    headers: { "X-CSRFToken": csrf, "Content-Type": "application/json", Accept: "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Problem(sentence(answer) || words.refused.replace("{status}", response.status));
  return answer;
}

/** Return a problem document as a sentence. */
function sentence(problem) {
  if (!problem?.detail) return "";
  const fields = Object.entries(problem.errors ?? {}).map(([name, texts]) => `${name}: ${[texts].flat().join(" ")}`);
  return `${[problem.detail, ...fields].join(" ")} (${problem.code})`;
}

async function listFiles(upload) {
  const files = [];
  for (let url = `${api}${upload}/files/?page_size=200`; url; ) {
    const page = await call("GET", url);
    files.push(...page.results);
    url = page.next;
  }
  return files;
}

// --- going on where it stopped -----------------------------------------------------------------

/** A short hash, so that no file name stays in the browser's storage. */
function fingerprint({ file, name }) {
  let hash = 0xcbf29ce484222325n;
  for (const character of `${name}|${file.size}|${file.lastModified}`) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(character.codePointAt(0))) * 0x100000001b3n);
  }
  return REMEMBERED + hash.toString(16);
}

function remember(upload) {
  try {
    for (const one of chosen) localStorage.setItem(fingerprint(one), upload);
  } catch {
    // Storage is full or forbidden: the upload's own page can still go on with it.
  }
}

function forget() {
  for (const one of chosen) localStorage.removeItem(fingerprint(one));
}

/** Return the unfinished upload that these very files began, or null. */
async function interrupted() {
  const known = new Set(chosen.map((one) => localStorage.getItem(fingerprint(one))).filter(Boolean));
  if (known.size !== 1) return null;
  const [upload] = known;
  try {
    return (await call("GET", `${api}${upload}/`)).state === "receiving" ? upload : null;
  } catch {
    return null; // another person's, or gone
  }
}

/** Announce the upload with the form's fields; return its id and where each file goes. */
async function announce() {
  const fields = Object.fromEntries(
    [...new FormData(form)].filter(([name, value]) => value !== "" && name !== "csrfmiddlewaretoken"),
  );
  const created = await call("POST", api, {
    ...fields,
    files: chosen.map(({ file, name }) => ({ name, size_bytes: file.size })),
  });
  return { upload: created.id, files: created.files };
}

/** Pair what was chosen with what the server expects; files it does not know are left out. */
function pair(files) {
  const waiting = new Map();
  for (const one of files) {
    const key = `${one.name}|${one.size_bytes}`;
    waiting.set(key, [...(waiting.get(key) ?? []), one]);
  }
  const pairs = [];
  for (const { file, name } of chosen) {
    const target = waiting.get(`${name}|${file.size}`)?.shift();
    if (target) pairs.push({ file, target });
  }
  return pairs;
}

// --- sending -----------------------------------------------------------------------------------

let pace = []; // [milliseconds, bytes sent] of the last PACE_MS: what the time left is told by

function secondsLeft(sent, total) {
  const now = performance.now();
  pace = [...pace.filter(([at]) => now - at < PACE_MS), [now, sent]];
  const [[at, before]] = pace;
  if (now - at < 2000 || sent <= before) return null;
  return ((total - sent) * (now - at)) / (sent - before) / 1000;
}

function showProgress(sent, total) {
  const bar = document.getElementById("sending");
  bar.max = total || 1;
  bar.value = sent;
  const seconds = secondsLeft(sent, total);
  const parts = [words.of.replace("{sent}", readable(sent)).replace("{total}", readable(total))];
  if (seconds !== null && !isPaused) {
    const minutes = Math.round(seconds / 60);
    if (seconds < 60) parts.push(words.minute);
    else if (minutes < 90) parts.push(words.minutes.replace("{count}", minutes));
    else parts.push(words.hours.replace("{count}", Math.round(minutes / 60)));
  }
  part("sending-text").textContent = parts.join(" · ");
}

async function sendAll(pairs, allFiles) {
  const sent = new Map(allFiles.map((one) => [one.id, one.offset_bytes]));
  const total = allFiles.reduce((sum, one) => sum + one.size_bytes, 0);
  const show = () => showProgress([...sent.values()].reduce((sum, bytes) => sum + bytes, 0), total);
  show();
  const queue = pairs.filter(({ target }) => target.offset_bytes < target.size_bytes);
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const { file, target } = next;
      await sendOne(file, target, (bytes) => {
        sent.set(target.id, bytes);
        show();
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function sendOne(file, target, onBytes) {
  return new Promise((resolve, reject) => {
    const upload = new tus.Upload(file, {
      uploadUrl: target.tus_url,
      chunkSize: CHUNK_BYTES,
      retryDelays: RETRY_DELAYS,
      storeFingerprintForResuming: false,
      headers: { "X-CSRFToken": csrf },
      onProgress: onBytes,
      onSuccess: () => {
        running = running.filter((one) => one !== upload);
        onBytes(file.size);
        resolve();
      },
      onError: (error) => {
        running = running.filter((one) => one !== upload);
        reject(new Problem(sentence(answerOf(error)) || words.broken));
      },
    });
    running.push(upload);
    if (!isPaused) upload.start();
  });
}

function answerOf(error) {
  try {
    return JSON.parse(error.originalResponse?.getBody() ?? "");
  } catch {
    return null;
  }
}

function showError(text) {
  const box = part("error");
  box.textContent = text;
  box.hidden = !text;
}

function setSending(value) {
  isSending = value;
  part("sending").hidden = !value;
  part("clear").disabled = value;
  part("send").disabled = value || !chosen.length;
}

part("pause").addEventListener("click", (event) => {
  isPaused = !isPaused;
  pace = []; // the pause is no pace
  event.target.textContent = isPaused ? words.goOn : words.pauseWord;
  event.target.setAttribute("aria-pressed", isPaused);
  for (const upload of running) isPaused ? upload.abort() : upload.start();
});

addEventListener("beforeunload", (event) => {
  if (isSending) event.preventDefault();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isSending || !chosen.length) return;
  showError("");
  setSending(true);
  try {
    let upload = form.dataset.upload ?? (await interrupted());
    let files;
    if (upload) files = await listFiles(upload);
    else ({ upload, files } = await announce());
    remember(upload);
    const pairs = pair(files);
    if (!pairs.length) throw new Problem(words.foreign);
    await sendAll(pairs, files);
    const sent = new Set(pairs.map(({ target }) => target.id));
    const isWhole = files.every((one) => sent.has(one.id) || one.offset_bytes === one.size_bytes);
    if (isWhole) {
      await call("POST", `${api}${upload}/finish/`);
      forget();
    }
    isSending = false;
    location.assign(`${form.dataset.pageUrl}${upload}/`);
  } catch (error) {
    for (const one of running) one.abort();
    running = [];
    setSending(false);
    showError(error instanceof Problem ? error.message : words.stopped);
  }
});
