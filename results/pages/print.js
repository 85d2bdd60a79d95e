// Paper shows the first rows as they are sorted and filtered, in tables narrow enough for it; grid.py prints the same of a table unopened.

const PRINTED = 40;
const PRINTED_WIDTH = 104; // characters of a line in a small font

// `rows` are the cells' texts in the order of `columns`.
function printedTables(label, columns, rows, total) {
  const said = rows.length < total ? `first ${rows.length} of ${counted(total, "row")}` : counted(total, "row");
  return [make("p", {}, `${label}: ${said}`), ...printedGroups(columns, rows).map((group) => printedTable(columns, rows, group))];
}

// Columns side by side, line by line; each begins with the first column, which says which row it is.
function printedGroups(columns, rows) {
  // A heading breaks between its words.
  const heading = (column) => Math.max(...titled(column).split(/\s+/).map((word) => word.length));
  const width = (place) => 2 + Math.max(heading(columns[place]), ...rows.map((row) => Math.min(row[place].length, 30)));
  const groups = [[0]];
  let used = width(0);
  for (let place = 1; place < columns.length; place++) {
    if (used + width(place) > PRINTED_WIDTH && groups.at(-1).length > 1) {
      groups.push([0]);
      used = width(0);
    }
    groups.at(-1).push(place);
    used += width(place);
  }
  return groups;
}

function printedTable(columns, rows, group) {
  const cell = (tag, place, text) => make(tag, NUMERIC.has(columns[place].kind) ? { class: "number" } : {}, text);
  const head = make("tr", {}, ...group.map((place) => cell("th", place, titled(columns[place]))));
  const body = rows.map((row) => make("tr", {}, ...group.map((place) => cell("td", place, row[place]))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

function titled({ label, unit }) {
  return unit ? `${label} (${unit})` : label;
}
