// Colours as scanned, or corrected by the slide's ICC profile: the server sends either tiles. The
// choice is kept in this browser, for all slides.

const button = document.querySelector("[data-colours]");
const shell = document.getElementById("viewer-shell");
const viewer = window.slideViewer;
const KEY = "colours";

function show(isCorrected) {
  button.setAttribute("aria-pressed", String(isCorrected));
  // In place of the tiles that are there, so that the view and what lies over it stay.
  viewer.preserveViewport = true;
  viewer.addTiledImage({
    tileSource: shell.dataset.dzi + (isCorrected ? "?colours=corrected" : ""),
    index: 0,
    replace: true,
  });
}

if (button && viewer) {
  button.addEventListener("click", () => {
    const isCorrected = button.getAttribute("aria-pressed") !== "true";
    localStorage.setItem(KEY, isCorrected ? "corrected" : "scanned");
    show(isCorrected);
  });
  const begin = () => localStorage.getItem(KEY) === "corrected" && show(true);
  if (viewer.isOpen()) begin();
  else viewer.addOnceHandler("open", begin);
}
