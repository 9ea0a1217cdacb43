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

  // The card's verdict at another threshold, as `gallery.rs` has it at the model's.
  function judge(card, threshold, highest) {
    const flagged = !(+card.dataset.score <= threshold), defective = card.dataset.truth === "bad";
    card.dataset.outcome = flagged && !defective ? "false" : !flagged && defective ? "missed" : "";
    const verdict = card.querySelector(".verdict"), mark = card.querySelector(".track b");
    verdict.textContent = flagged ? (defective ? "defect found" : "false alarm") : defective ? "missed" : "passed";
    verdict.className = "verdict " + (card.dataset.outcome ? "wrong" : "right");
    mark.style.left = (highest > 0 ? Math.min(Math.max(100 * threshold / highest, 0), 100) : 0).toFixed(1) + "%";
  }

  for (const box of document.querySelectorAll(".threshold")) {
    const own = cards.filter((card) => card.dataset.category === box.dataset.category);
    const highest = Math.max(0, ...own.map((card) => +card.dataset.score).filter(Number.isFinite));
    const told = [...document.querySelectorAll(".verdicts")].find((p) => p.dataset.category === box.dataset.category);
    // The slider's places lie between neighbouring scores, so that each changes one verdict; the model's is one of them.
    const range = box.querySelector("input"), own_threshold = +box.dataset.threshold;
    const scores = own.map((card) => +card.dataset.score).filter(Number.isFinite).sort((a, b) => a - b);
    const between = scores.slice(1).map((score, i) => (score + scores[i]) / 2);
    const places = [scores[0] - 1e-6 * Math.abs(scores[0]) - 1e-6, ...between, scores.at(-1), own_threshold].sort((a, b) => a - b);
    range.min = 0;
    range.max = places.length - 1;
    range.value = places.indexOf(own_threshold);
    const move = (threshold) => {
      for (const card of own) judge(card, threshold, highest);
      const count = (truth, outcome) => own.filter((card) => card.dataset.truth === truth && (outcome === undefined || card.dataset.outcome === outcome)).length;
      const defects = count("bad"), missed = count("bad", "missed");
      told.textContent = `At ${threshold.toPrecision(4)}: found ${defects - missed} of ${defects}, missed ${missed}; ` +
        `false alarms ${count("good", "false")} of ${count("good")}.`;
      show();
    };
    range.addEventListener("input", () => move(places[+range.value]));
    box.querySelector("button").addEventListener("click", () => { range.value = places.indexOf(own_threshold); move(own_threshold); });
    box.hidden = own.length === 0;
  }

  for (const chip of chips) chip.addEventListener("click", () => { filter = chip.dataset.filter; show(); });
  sort.addEventListener("change", show);
  if (category) category.addEventListener("change", show);
  document.querySelector(".controls").hidden = false;
})();
