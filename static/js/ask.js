// The search bar: an image dropped anywhere on the page, and what is chosen in the viewer.
//
// The viewer tells the region by the event `region-chosen` on the document, whose detail is
// {x, y, width, height} in level-0 pixels, or null when there is none any more.

const form = document.querySelector("[data-ask]");
const input = form?.querySelector("[data-ask-image]");

function showImage() {
  const [file] = input.files;
  const chip = form.querySelector("[data-ask-picture]");
  const preview = chip.querySelector("img");
  const mpp = chip.querySelector("[name=image_mpp]");
  if (preview.src) URL.revokeObjectURL(preview.src);
  chip.hidden = !file;
  mpp.disabled = !file;
  mpp.required = Boolean(file);
  chip.querySelector("[data-ask-name]").textContent = file?.name ?? "";
  if (!file) return preview.removeAttribute("src");
  preview.src = URL.createObjectURL(file);
  // A picture and a slide are two tissues: the last one chosen is meant.
  choose("[data-ask-slide]", false);
  choose("[data-ask-region-on]", false);
  setRegion();
  mpp.focus();
}

function choose(selector, value) {
  const box = form.querySelector(selector);
  if (box) box.checked = value;
}

function dropImage() {
  input.value = "";
  showImage();
}

/** Send the region's place only while its chip is on. */
function setRegion() {
  const isOn = form.querySelector("[data-ask-region-on]");
  if (!isOn) return;
  for (const name of ["x", "y", "width", "height"]) form.elements[name].disabled = !isOn.checked;
}

if (form) {
  input.addEventListener("change", showImage);
  form.querySelector("[data-ask-drop]").addEventListener("click", dropImage);
  const elsewhere = (event) => event.target.closest?.("[data-dropzone], [data-drop]");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event) || elsewhere(event)) return;
    event.preventDefault();
    form.classList.add("is-over");
  });
  addEventListener("dragleave", (event) => !event.relatedTarget && form.classList.remove("is-over"));
  addEventListener("drop", (event) => {
    form.classList.remove("is-over");
    if (!carriesFiles(event) || elsewhere(event)) return;
    event.preventDefault();
    const image = [...event.dataTransfer.files].find((file) => /^image\/(png|jpeg)$/.test(file.type));
    if (!image) return;
    const chosen = new DataTransfer();
    chosen.items.add(image);
    input.files = chosen.files;
    showImage();
  });

  const region = form.querySelector("[data-ask-region]");
  const isOn = form.querySelector("[data-ask-region-on]");
  const turnRegion = (on) => {
    if (on) {
      if (input.files.length) dropImage();
      choose("[data-ask-slide]", true); // a region is one of this slide
    }
    isOn.checked = on;
    setRegion();
  };
  document.addEventListener("region-chosen", ({ detail }) => {
    if (!region) return;
    region.hidden = !detail;
    if (detail)
      for (const name of ["x", "y", "width", "height"]) form.elements[name].value = Math.round(detail[name]);
    turnRegion(Boolean(detail));
  });
  isOn?.addEventListener("change", () => turnRegion(isOn.checked));
  form.querySelector("[data-ask-slide]")?.addEventListener("change", (event) => {
    if (event.target.checked) {
      if (input.files.length) dropImage();
    } else turnRegion(false);
  });
}

// A menu closes when one looks elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
