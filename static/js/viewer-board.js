// A case that is added to a tumour board opens there at the box that is drawn here.
const field = document.querySelector("[data-place]");
document.addEventListener("region-chosen", ({ detail: box }) => {
  if (field) field.value = box ? `l0=${box.x},${box.y},${box.width},${box.height}` : "";
});
