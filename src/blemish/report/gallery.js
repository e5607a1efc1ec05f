"use strict";
// Without this script the page shows every card in its default order and no controls.
const gallery = document.getElementById("gallery");
const toolbar = document.getElementById("toolbar");
const sort = document.getElementById("sort");
const buttons = [...toolbar.querySelectorAll("button")];
const cards = [...gallery.children];
const orders = {
  place: (a, b) => a.dataset.place - b.dataset.place,
  score: (a, b) => b.dataset.score - a.dataset.score,
  p: (a, b) => a.dataset.p - b.dataset.p || b.dataset.score - a.dataset.score,
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
};

function show(filter) {
  let shown = 0;
  for (const card of cards) {
    card.hidden = !card.dataset.tags.split(" ").includes(filter);
    shown += !card.hidden;
  }
  for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.filter === filter);
  document.getElementById("nothing").hidden = shown > 0;
}

for (const button of buttons) button.addEventListener("click", () => show(button.dataset.filter));
sort.addEventListener("change", () => gallery.append(...cards.sort(orders[sort.value])));
gallery.addEventListener("click", (event) => {
  if (event.target.closest(".pictures")) event.target.closest(".card").classList.toggle("large");
});
// Paper cannot be unfolded, and a lazy picture would be missing on it.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const image of document.querySelectorAll("img")) image.loading = "eager";
});
toolbar.hidden = false;
