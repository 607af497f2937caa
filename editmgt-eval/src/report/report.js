"use strict";
const category = document.getElementById("category");
const metric = document.getElementById("metric");
const gallery = document.getElementById("gallery");
const cases = [...gallery.children].map((element) => ({
  element,
  metrics: JSON.parse(element.dataset.metrics),
}));

// Worst first; an edit without the metric comes last.
function show() {
  const name = metric.value;
  const sign = metric.selectedOptions[0].dataset.more === "true" ? 1 : -1;
  const badness = (one) => (name in one.metrics ? sign * one.metrics[name] : Infinity);
  const compare = (a, b) => {
    const [x, y] = [badness(a), badness(b)];
    return x < y ? -1 : x > y ? 1 : 0;
  };
  let shown = 0;
  for (const { element } of [...cases].sort(compare)) {
    gallery.append(element);
    element.hidden = category.value !== "" && element.dataset.category !== category.value;
    shown += element.hidden ? 0 : 1;
  }
  document.getElementById("shown").value = `${shown} of ${cases.length}`;
}

category.addEventListener("change", show);
metric.addEventListener("change", show);
show();
