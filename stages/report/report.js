"use strict";
// Tables are sorted by a click on a heading and cut down by a word; without this they only stand still.
const NUMBER = /^[^\d]*?([-+]?\d[\d,]*(?:\.\d+)?)/;
const MANY = 12;

function keyOf(cell) {
  const text = cell ? cell.textContent.trim() : "";
  const found = cell && cell.classList.contains("number") && text.match(NUMBER);
  return found ? Number(found[1].replaceAll(",", "")) : text;
}

function inOrder(one, other) {
  if (typeof one === typeof other) {
    return typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  }
  return typeof one === "number" ? -1 : 1;
}

function sort(table, heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    const keys = new Map(rows.map((row) => [row, keyOf(row.cells[heading.cellIndex])]));
    rows.sort((one, other) => (down ? -1 : 1) * inOrder(keys.get(one), keys.get(other)));
    body.append(...rows);
  }
}

function makeSortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.tabIndex = 0;
    heading.title = "sort";
    heading.addEventListener("click", () => sort(table, heading));
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter") sort(table, heading);
    });
  }
}

function makeFilter(table) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  if (rows.length <= MANY) return;
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "only rows with …";
  input.setAttribute("aria-label", "only rows with");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !row.classList.contains("group") && !words.every((word) => text.includes(word));
    }
  });
  table.parentElement.before(input);
}

for (const table of document.querySelectorAll("table")) {
  if (!table.tHead) continue;
  makeSortable(table);
  makeFilter(table);
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
