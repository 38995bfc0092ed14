// What a page can do beyond being read: sort, filter, save and copy. Without this it lacks the buttons and no content.
// Names in a report are other people's text: they are only ever set as text.
"use strict";

const LONG = 6; // rows from which a filter helps
const collator = new Intl.Collator("en", { numeric: true });

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function button(text, action) {
  const element = make("button", { type: "button", className: "button" }, text);
  element.addEventListener("click", () => action(element));
  return element;
}

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? collator.compare(a, b) : x - y;
}

// A missing value stays last in both directions; totals are in the foot of the table and never move.
function sort(body, rows, column, direction) {
  const sorted = rows.map((row) => [row.cells[column].dataset.value, row]);
  if (direction) {
    sorted.sort(([a], [b]) => (a === undefined) - (b === undefined) || direction * compare(a ?? "", b ?? ""));
  }
  body.append(...sorted.map(([, row]) => row));
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const control = make("button", { type: "button" }, ...head.childNodes);
    head.append(control);
    control.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      sort(body, rows, column, { ascending: 1, descending: -1 }[order]);
    });
  });
}

function makeFilterable(table, tools) {
  const rows = [...table.tBodies[0].rows];
  const input = make("input", { type: "search", autocomplete: "off" });
  const status = make("output", {});
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    const totals = table.tFoot && shown < rows.length ? "; the totals are of all" : "";
    status.textContent = `${shown} of ${rows.length} rows${totals}`;
  };
  input.addEventListener("input", show);
  show();
  tools.prepend(make("label", {}, "Filter", make("span", { className: "hidden" }, ` ${table.caption.textContent}`), input), status);
}

async function copy(control, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    control.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    control.textContent = "Selected";
  }
  setTimeout(() => (control.textContent = "Copy"), 2000);
}

for (const part of document.querySelectorAll(".table")) {
  const table = part.querySelector("table");
  makeSortable(table);
  if (table.tBodies[0].rows.length >= LONG) makeFilterable(table, part.querySelector(".tools"));
}
for (const figure of document.querySelectorAll(".figure")) {
  const href = figure.querySelector("img").src;
  const link = make("a", { href, download: `${figure.dataset.name}.svg`, className: "button" }, "Download SVG");
  figure.append(make("div", { className: "tools" }, link));
}
for (const code of document.querySelectorAll("pre code")) {
  code.parentElement.after(make("div", { className: "tools" }, button("Copy", (control) => copy(control, code))));
}
