// Events, and the first drawing.
function redraw() {
  list.page = 0;
  drawPoints();
  draw().catch((fault) => { $("shown-points").textContent = `The charts could not be drawn: ${fault.message}. The tables have their numbers.`; throw fault; });
}

if (Z > 1500) $("seeds").checked = false; // so many small marks hide more than they show
$("filters").addEventListener("change", redraw);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("pair").addEventListener("submit", (event) => event.preventDefault());
$("pair").addEventListener("change", compare);
for (const [key, on] of [["all", true], ["none", false]]) {
  document.querySelectorAll(`button[data-${key}]`).forEach((button) => button.addEventListener("click", () => {
    document.querySelectorAll(`#filters input[name="${button.dataset[key]}"]`).forEach((box) => { box.checked = on; });
    redraw();
  }));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { $("tip").hidden = true; if (!$("details").hidden) unpin(); }
});
document.addEventListener("scroll", () => { $("tip").hidden = true; }, { passive: true });

// On paper everything is open; afterwards what was closed is closed again.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));

redraw();
compare().then(() => { document.documentElement.dataset.ready = "yes"; });
