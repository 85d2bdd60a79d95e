// The two rows above a grid: headings that sort, fields that filter.

const NARROWEST = 64;
const WIDEST = 280;
const HINTS = { number: ">= 1.5", percent: "> 5", integer: "1..9", text: "part of it", seconds: "< 2m" };
const FILTER_HELP = {
  number: "Filter: >= 1.5, < 0, 1..2, = 3, n/a, !n/a",
  percent: "Filter, in percent: >= 5, < 0, 1..2, n/a, !n/a",
  integer: "Filter: >= 10, 1..9, = 3, !3, n/a",
  text: "Filter: a part of the text, = all of it, !part, n/a",
  seconds: "Filter: < 90, 2m..1h, >= 1.5h, n/a",
};

class Head {
  // `sort(column)`, `filter(column, text)`: what the reader asks for; `resized()`: a column has another width.
  constructor(grid, columns, { sort, filter, resized }) {
    this.columns = columns;
    this.widths = new Map();
    this.resized = resized;
    this.pictures = new Map(columns.map((column) => [column.name, make("span", { class: "picture" })]));
    this.labels = make("div", { role: "row", class: "labels", "aria-rowindex": "1" });
    this.fields = make("div", { role: "row", class: "fields", "aria-rowindex": "2" });
    this.element = make("div", { role: "rowgroup", class: "grid-head" }, this.labels, this.fields);
    this.cells = new Map(columns.map((column) => [column.name, this.label(column, sort)]));
    this.inputs = new Map(columns.map((column) => [column.name, this.field(grid, column, filter)]));
  }

  label(column, sort) {
    const grip = make("span", { class: "grip", "aria-hidden": "true" });
    const cell = make(
      "div",
      { role: "columnheader", class: `cell ${NUMERIC.has(column.kind) ? "number" : ""}`, "aria-sort": "none" },
      make("span", { class: "label" }, column.label, ...(column.unit ? [make("small", {}, ` ${column.unit}`)] : [])),
      make("span", { class: "arrow", "aria-hidden": "true" }),
      this.pictures.get(column.name),
      grip,
    );
    cell.title = [column.help || column.label, "Click to sort"].join("\n");
    if (column.help) cell.setAttribute("aria-description", column.help);
    cell.addEventListener("click", (event) => event.target !== grip && sort(column));
    this.grips(grip, cell, column);
    return cell;
  }

  grips(grip, cell, column) {
    grip.addEventListener("dblclick", () => this.setWidth(column, null));
    grip.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      grip.setPointerCapture(event.pointerId);
      const start = event.clientX - cell.offsetWidth;
      grip.onpointermove = (move) => this.setWidth(column, move.clientX - start);
      grip.onpointerup = () => (grip.onpointermove = null);
    });
  }

  setWidth(column, width) {
    if (width === null) this.widths.delete(column.name);
    else this.widths.set(column.name, Math.round(Math.min(Math.max(width, 40), 900)));
    this.resized();
  }

  field(grid, column, filter) {
    const said = `${grid}-${this.columns.indexOf(column)}-said`;
    const input = make("input", {
      type: "text",
      placeholder: HINTS[column.kind],
      title: FILTER_HELP[column.kind],
      "aria-label": `Filter ${column.label}`,
      autocomplete: "off",
      spellcheck: "false",
      autocapitalize: "off",
    });
    const message = make("span", { class: "said", id: said, role: "alert", hidden: true });
    input.addEventListener("input", () => filter(column, input.value));
    return Object.assign(input, { message, cell: make("div", { role: "gridcell", class: "cell" }, input, message) });
  }

  // Says beside a field what is wrong with it; null: nothing.
  say(name, message) {
    const input = this.inputs.get(name);
    if (!input) return;
    input.message.hidden = message === null;
    input.message.textContent = message ?? "";
    if (message === null) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    } else {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", input.message.id);
    }
  }

  show(shown, query, picker) {
    const blank = make("div", { role: "gridcell", class: "cell pick" });
    this.labels.replaceChildren(picker, ...shown.map((column) => this.cells.get(column.name)));
    this.fields.replaceChildren(blank, ...shown.map((column) => this.inputs.get(column.name).cell));
    for (const row of [this.labels, this.fields]) {
      [...row.children].forEach((cell, at) => {
        cell.setAttribute("aria-colindex", at + 1);
        cell.classList.toggle("first", at === 1);
      });
    }
    shown.forEach((column, at) => this.inputs.get(column.name).message.classList.toggle("leftwards", at > 1 && at >= shown.length - 2));
    this.sorted(query);
  }

  sorted(query) {
    for (const [name, cell] of this.cells) {
      cell.setAttribute("aria-sort", name !== query.sort ? "none" : query.descending ? "descending" : "ascending");
    }
  }

  // Widths from what is in the cells: `samples` are rows.
  template(shown, samples) {
    const pen = document.createElement("canvas").getContext("2d");
    const style = getComputedStyle(this.element);
    const measured = (text, weight) => {
      pen.font = `${weight} ${style.fontSize} ${style.fontFamily}`;
      return pen.measureText(text).width;
    };
    return shown.map((column) => {
      const set = this.widths.get(column.name);
      if (set) return set;
      const place = this.columns.indexOf(column);
      const longest = samples.map((row) => written(row.values[place], column)).sort((a, b) => b.length - a.length);
      const padded = Object.keys(column.tones).length ? 34 : 22;
      const content = Math.max(0, ...longest.slice(0, 5).map((text) => measured(text, 400))) + padded;
      const heading = measured(`${column.label} ${column.unit}`, 600) + 34;
      return Math.ceil(Math.min(Math.max(content, heading, NARROWEST), WIDEST));
    });
  }
}
