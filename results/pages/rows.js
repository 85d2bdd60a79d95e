// One row of a grid: its elements, and what is written into them.

function makeRow(columns) {
  const pick = make("div", { role: "gridcell", class: "cell pick", "aria-label": "Select" }, make("i"));
  const cells = columns.map((column) => make("div", { role: "gridcell", class: NUMERIC.has(column.kind) ? "cell number" : "cell" }, ""));
  cells[0].classList.add("first");
  [pick, ...cells].forEach((cell, at) => cell.setAttribute("aria-colindex", at + 1));
  return Object.assign(make("div", { role: "row", class: "row" }, pick, ...cells), { cells });
}

// Runs for each row that comes into sight: it changes what differs and no more, so that browsers need not look at the rest. `row` is null
// where it has not come from the server yet; `places` are those of the shown columns among its values.
function fillRow(element, at, row, columns, places, { chosen, active }) {
  element.setAttribute("aria-rowindex", at + 3); // after headings and filters
  if (element.ariaSelected !== String(chosen)) element.ariaSelected = String(chosen);
  element.classList.toggle("chosen", chosen);
  element.classList.toggle("waiting", row === null);
  element.classList.toggle("active", active);
  columns.forEach((column, place) => {
    const value = row === null ? "" : row.values[places[place]];
    fillCell(element.cells[place], row === null ? "" : written(value, column), column.tones[value]);
  });
}

function fillCell(cell, text, tone) {
  if (cell.shown === text && cell.tone === tone) return;
  if (tone) cell.replaceChildren(make("span", { class: `badge ${tone}` }, text));
  else if (cell.tone || !cell.firstChild) cell.textContent = text;
  else cell.firstChild.data = text;
  cell.classList.toggle("missing", text === NA);
  if (text.length > 24) cell.title = text;
  else if (cell.title) cell.removeAttribute("title");
  Object.assign(cell, { shown: text, tone });
}
