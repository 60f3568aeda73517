"use strict";
// Each head of a table becomes a button, which the Enter key presses too.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    if (button.textContent === "") button.setAttribute("aria-label", "names");
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table.tBodies[0], column, descending ? -1 : 1);
    });
    head.append(button);
  });
}

function sort(body, column, sign) {
  const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // blank cells last
    if (typeof a === "number") return sign * ((a > b) - (a < b)); // two infinities are equal
    return sign * a.localeCompare(b, "en", { numeric: true });
  });
  body.append(...rows.map(([, row]) => row));
}

function key(cell) {
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent;
  return value === "" ? null : Number(value);
}
