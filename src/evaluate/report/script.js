"use strict";
(() => {
  const gallery = document.querySelector(".gallery");
  if (!gallery) return;
  const cards = [...gallery.children];
  const category = document.getElementById("category");
  const sort = document.getElementById("sort");
  const chips = [...document.querySelectorAll("[data-filter]")];
  let filter = "all";

  const fits = {
    all: () => true,
    wrong: (data) => data.outcome !== "",
    missed: (data) => data.outcome === "missed",
    false: (data) => data.outcome === "false",
    defective: (data) => data.truth === "bad",
    good: (data) => data.truth === "good",
  };
  // A score that is no number comes first: it needs a look.
  const score = (card) => Number.isFinite(+card.dataset.score) ? +card.dataset.score : Infinity;
  const byName = (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true });
  const orders = {
    high: (a, b) => score(b) - score(a) || byName(a, b),
    low: (a, b) => score(a) - score(b) || byName(a, b),
    name: byName,
  };

  function show() {
    let count = 0;
    for (const card of cards) {
      const wanted = !category || !category.value || category.value === card.dataset.category;
      card.hidden = !(wanted && fits[filter](card.dataset));
      count += card.hidden ? 0 : 1;
    }
    gallery.append(...cards.sort(orders[sort.value]));
    document.getElementById("count").textContent = count + (count === 1 ? " part" : " parts");
    document.getElementById("none").hidden = count > 0;
    for (const chip of chips) chip.setAttribute("aria-pressed", chip.dataset.filter === filter);
  }

  for (const chip of chips) chip.addEventListener("click", () => { filter = chip.dataset.filter; show(); });
  sort.addEventListener("change", show);
  if (category) category.addEventListener("change", show);
  document.querySelector(".controls").hidden = false;
})();
