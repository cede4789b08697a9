// Small behaviours that any page can ask for by an attribute.

// <form data-auto-submit>: a changed select or date sends the form at once.
for (const form of document.querySelectorAll("form[data-auto-submit]")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=date], input[type=checkbox]")) form.requestSubmit();
  });
}

// <form data-confirm="…">: ask before sending.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// <input type=checkbox data-check-all="name">: tick all boxes of that name in the same form
// (also those that stand elsewhere and belong to it by their `form` attribute).
for (const box of document.querySelectorAll("[data-check-all]")) {
  box.addEventListener("change", () => {
    for (const other of box.form?.elements ?? [])
      if (other.type === "checkbox" && other.name === box.dataset.checkAll) other.checked = box.checked;
  });
}

// A menu (<details data-menu>) closes by a click elsewhere and by Escape, which leaves the focus on it.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("[data-menu][open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// <dialog id=…> opened by <button data-open="id">, closed by any [data-close] within.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
});

// A thumbnail that cannot be read leaves a calm placeholder instead of a broken picture.
const showMissing = (image) => image.classList.add("is-missing");
document.addEventListener(
  "error",
  (event) => event.target.matches?.("img.thumbnail") && showMissing(event.target),
  true,
);
for (const image of document.querySelectorAll("img.thumbnail"))
  if (image.complete && image.currentSrc && !image.naturalWidth) showMissing(image); // failed before

// [data-density] buttons: how close the rows of lists stand, kept in this browser (theme.js).
const densities = document.querySelectorAll("[data-density]:is(button)");
const tellDensity = () => {
  const now = document.documentElement.dataset.density ?? "roomy";
  for (const button of densities) button.setAttribute("aria-pressed", String(button.dataset.density === now));
};
for (const button of densities)
  button.addEventListener("click", () => {
    if (button.dataset.density === "dense") document.documentElement.dataset.density = "dense";
    else delete document.documentElement.dataset.density;
    localStorage.setItem("density", button.dataset.density);
    tellDensity();
  });
tellDensity();

// [data-ticked-count="name"]: how many boxes of that name are ticked; [data-copy-ticked="name"]
// copies what they stand for.
for (const told of document.querySelectorAll("[data-ticked-count]")) {
  const name = told.dataset.tickedCount;
  const copier = document.querySelector(`[data-copy-ticked="${name}"]`);
  const boxes = () => [...document.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
  const count = () => {
    const ticked = boxes().filter((box) => box.checked).length;
    told.textContent = ticked ? `${ticked} / ${boxes().length}` : "";
    if (copier) copier.hidden = !ticked;
  };
  document.addEventListener("change", count);
  addEventListener("pageshow", count);
  copier?.addEventListener("click", async () => {
    const texts = boxes().filter((box) => box.checked).map((box) => box.dataset.copy);
    await navigator.clipboard.writeText(texts.join("\n"));
    told.textContent += " ✓";
  });
}

// [data-print]: the browser's own printing.
for (const button of document.querySelectorAll("[data-print]")) button.addEventListener("click", () => print());
