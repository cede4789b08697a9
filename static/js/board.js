// The list of a tumour board: rows are put into order by dragging; keys and buttons send forms.

const table = document.querySelector("[data-board]");

// After a move the page comes back at the row: the focus stays with the case that was moved.
document.querySelector(`tr${location.hash || "#none"} [data-row-link]`)?.focus();

let dragged = null;
table?.addEventListener("dragstart", (event) => {
  dragged = event.target.closest("tr[data-move]");
  event.dataTransfer.effectAllowed = "move";
});
table?.addEventListener("dragover", (event) => {
  if (dragged && event.target.closest("tbody tr")) event.preventDefault();
});
table?.addEventListener("drop", (event) => {
  const onto = event.target.closest("tr[data-number]");
  if (!dragged || !onto || onto === dragged) return;
  event.preventDefault();
  // The row's own form carries the token.
  const form = dragged.querySelector(`form[action="${dragged.dataset.move}"]`);
  const field = Object.assign(document.createElement("input"), { type: "hidden", name: "position" });
  field.value = onto.dataset.number;
  form.append(field);
  form.submit();
});
