// Keys of every page. A page names its parts by attributes:
//   [data-row] with a [data-row-link] in it: j and k walk along them, x ticks the row's box;
//   [data-key="a"]: a link or button that this letter presses;
//   [data-find]: the field that / goes to, before the search bar of every page.
// Letters do nothing in a field, with Ctrl, Alt or Meta, where the slide has the focus (the
// viewer has keys of its own), and once they are switched off (WCAG 2.1.4).

const OFF = "keys-off";
const isShown = (element) => element.checkVisibility?.() ?? element.offsetParent !== null;
const first = (selector) => [...document.querySelectorAll(selector)].find((e) => isShown(e) && !e.disabled);

const rows = () => [...document.querySelectorAll("[data-row]")].filter(isShown);
const here = () => rows().findIndex((row) => row.contains(document.activeElement));

function step(by) {
  const all = rows();
  if (!all.length) return false;
  const now = here();
  const next = now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, now + by));
  all[next].querySelector("[data-row-link]")?.focus({ preventScroll: true });
  all[next].scrollIntoView({ block: "nearest" });
  return true;
}

function tick() {
  const box = rows()[here()]?.querySelector("input[type=checkbox]");
  if (!box) return false;
  box.click();
  return true;
}

function press(key) {
  // In the row that has the focus first, so that a letter can mean "of this one".
  const inRow = [...(rows()[here()]?.querySelectorAll(`[data-row-key="${key}"]`) ?? [])].find(isShown);
  const target = inRow ?? first(`[data-key="${key}"]`);
  target?.click();
  // A menu that a key opened goes on by keys.
  if (target?.matches("summary")) target.parentElement.querySelector("summary ~ * :is(a, button, input)")?.focus();
  return Boolean(target);
}

const acts = {
  j: () => step(1),
  k: () => step(-1),
  x: tick,
  "/": () => {
    const field = first("[data-find]") ?? first("[data-ask] input[type=search]");
    field?.focus();
    field?.select();
    return Boolean(field);
  },
  "?": () => {
    document.getElementById("keys-dialog")?.showModal();
    return true;
  },
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
  const at = event.target;
  if (at.matches("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")) {
    if (event.key === "Escape") at.blur();
    return;
  }
  if (at.closest("#viewer, [data-own-keys], dialog[open]") || document.querySelector("dialog[open]")) return;
  if (localStorage.getItem(OFF) && event.key !== "?") return;
  const done = acts[event.key] ? acts[event.key]() : /^[a-z]$/.test(event.key) && press(event.key);
  if (done) event.preventDefault();
});

for (const box of document.querySelectorAll("[data-keys-off]")) {
  box.checked = Boolean(localStorage.getItem(OFF));
  box.addEventListener("change", () => {
    if (box.checked) localStorage.setItem(OFF, "1");
    else localStorage.removeItem(OFF);
  });
}
