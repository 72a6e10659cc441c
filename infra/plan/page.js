"use strict";
const tree = document.getElementById("tree");
const found = document.getElementById("found");
const nodes = Array.from(tree.querySelectorAll("details"));
const own = new Map(nodes.map((node) => [node, node.dataset.text + " " +
  (node.querySelector(":scope > pre")?.textContent ?? "").toLowerCase()]));

function show(words) {
  let count = 0;
  const visible = new Set();
  for (const node of nodes) {
    if (!words.every((word) => own.get(node).includes(word))) continue;
    count += 1;
    for (let at = node; at !== tree; at = at.parentElement) visible.add(at);
  }
  for (const node of nodes) {
    node.hidden = !visible.has(node);
    if (words.length > 0 && node.querySelector("details")) node.open = visible.has(node);
  }
  found.textContent = words.length > 0 ? `${count} of ${nodes.length} resources` : "";
}

document.getElementById("search").addEventListener("input", (event) => {
  show(event.target.value.toLowerCase().split(/\s+/).filter(Boolean));
});
