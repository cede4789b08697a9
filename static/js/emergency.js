// The bar of an emergency access counts its minutes down, also on a page that stays open for long.

const bars = [...document.querySelectorAll(".emergency-bar[data-until]")];

function tell() {
  for (const bar of bars) {
    const left = Date.parse(bar.dataset.until) - Date.now();
    if (left > 0) {
      bar.querySelector("[data-minutes]").textContent = Math.ceil(left / 60_000);
      continue;
    }
    const over = document.createElement("p");
    over.setAttribute("role", "alert");
    over.textContent = bar.dataset.over;
    bar.replaceChildren(over);
    bars.splice(bars.indexOf(bar), 1);
    return tell();
  }
}

tell();
setInterval(tell, 10_000);
