// Search pages: the picture dropped on the form, the cohort bar, and "searching …".
// All of it works without this file, by the file chooser and plain buttons.

for (const zone of document.querySelectorAll("[data-dropzone]")) {
  const input = zone.querySelector("input[type=file]");
  const preview = zone.querySelector("[data-preview]");
  const mpp = document.querySelector("[name=image_mpp]");

  const show = () => {
    const [file] = input.files;
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = !file;
    if (file) preview.src = URL.createObjectURL(file);
    else preview.removeAttribute("src");
    if (mpp) mpp.required = Boolean(file);
  };

  input.addEventListener("change", show);
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("is-over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    zone.addEventListener(name, () => zone.classList.remove("is-over"));
  }
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    const images = [...event.dataTransfer.files].filter((file) => /^image\/(png|jpeg)$/.test(file.type));
    if (!images.length) return;
    const chosen = new DataTransfer();
    chosen.items.add(images[0]);
    input.files = chosen.files;
    show();
  });
}

for (const form of document.querySelectorAll("[data-search-form]")) {
  const busy = form.querySelector("[data-busy]");
  const buttons = form.querySelectorAll("button");
  const rest = (waiting) => {
    if (busy) busy.hidden = !waiting;
    for (const button of buttons) button.disabled = waiting;
  };
  form.addEventListener("submit", () => setTimeout(() => rest(true)));
  // The browser's back button brings the page as it was left.
  addEventListener("pageshow", () => rest(false));
}

const bar = document.querySelector("[data-cohort-bar]");
if (bar) {
  const boxes = () => [...document.querySelectorAll("input[name=slide_image][form=to-cohort]")];
  const all = bar.querySelector("[data-select-all]");
  const told = bar.querySelector("[data-selected]");
  const adders = bar.querySelectorAll("button[formaction]");
  const count = () => {
    const every = boxes();
    const number = every.filter((box) => box.checked).length;
    told.textContent = number ? `${number} / ${every.length}` : "";
    all.checked = number === every.length;
    all.indeterminate = number > 0 && number < every.length;
    for (const adder of adders) adder.disabled = number === 0;
  };
  all.addEventListener("change", () => {
    for (const box of boxes()) box.checked = all.checked;
    count();
  });
  document.addEventListener("change", (event) => event.target.matches("[form=to-cohort]") && count());
  addEventListener("pageshow", count);
  count();
  // A verdict brings the answers anew: what was selected stays so.
  let selected = new Set();
  document.body.addEventListener("htmx:beforeSwap", () => {
    selected = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
  });
  document.body.addEventListener("htmx:afterSettle", () => {
    for (const box of boxes()) box.checked = selected.has(box.value);
    count();
  });
}

// [data-facet="field"] with a value: ask again with that filter, or without it ("").
document.addEventListener("click", (event) => {
  const facet = event.target.closest("[data-facet]");
  const form = document.getElementById("ask-again");
  if (!facet || !form) return;
  const field = form.elements[facet.dataset.facet];
  field.value = facet.getAttribute("aria-pressed") === "true" ? "" : facet.value;
  form.requestSubmit();
});
