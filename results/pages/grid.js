// A table of any length: sorted, filtered, searched, scrolled, selected, copied; by mouse, finger and keyboard.

const SAMPLED = 240; // rows looked at for the widths of columns

class Grid {
  constructor(element) {
    this.element = element;
    this.id = element.id;
    this.spec = JSON.parse(element.querySelector("[data-spec]").textContent);
    this.columns = this.spec.columns;
    this.chosen = new Set(this.columns.filter((column) => !column.hidden).map((column) => column.name));
    if (!this.chosen.size) this.chosen.add(this.columns[0].name);
    this.query = { sort: this.spec.sort, descending: this.spec.descending, filters: {}, search: "" };
    this.active = { row: 0, place: 1 };
    this.source = null;
    this.build();
    this.ready = this.start();
  }

  build() {
    this.search = make("input", { type: "search", placeholder: "Search", "aria-label": `Search ${this.spec.label}`, spellcheck: "false" });
    this.count = make("p", { class: "grid-count", role: "status" }, "Loading…");
    this.note = make("p", { class: "grid-note", role: "alert", hidden: true });
    this.selection = new Selection(this, () => this.picked(), (text) => this.say(text));
    this.unfilter = toolButton("clear", "Remove all filters", () => this.clearFilters(), "Remove filters");
    this.unfilter.hidden = true;
    const bar = make(
      "div",
      { class: "grid-bar" },
      make("span", { class: "grid-search" }, icon("search"), this.search),
      this.count,
      make(
        "div",
        { class: "grid-tools" },
        this.selection.tools,
        this.unfilter,
        columnsMenu(this.columns, this.chosen, () => this.layout()),
        this.selection.save,
      ),
    );
    this.head = new Head(this.id, this.columns, {
      sort: (column) => this.sortBy(column),
      filter: (column, text) => this.filterBy(column, text),
      resized: () => this.layout(),
    });
    this.empty = make("p", { class: "grid-empty", hidden: true }, "No row passes the filters.");
    this.pane = make("div", { role: "rowgroup", class: "grid-pane" });
    this.sizer = make("div", { class: "grid-sizer", role: "presentation" }, this.head.element, this.pane);
    this.box = make(
      "div",
      { class: "grid-box", role: "grid", tabindex: "0", "aria-label": this.spec.label, "aria-multiselectable": "true", "aria-busy": "true" },
      this.sizer,
    );
    if (this.spec.height) this.box.style.maxHeight = `${this.spec.height}px`;
    this.detail = new Detail(this.columns, (step) => this.moveTo(this.active.row + step), () => this.closeDetail());
    const body = make("div", { class: "grid-body" }, this.box, this.empty, this.detail.element);
    this.element.firstElementChild.replaceChildren(bar, this.note, body);
    this.viewport = new Viewport({
      box: this.box,
      sizer: this.sizer,
      head: this.head.element,
      pane: this.pane,
      rowHeight: matchMedia("(pointer: coarse)").matches ? 36 : 28,
      makeRow: () => makeRow(this.shown),
      fill: (element, at) => this.fill(element, at),
      drawn: (first, last) => this.source?.ensure(first, last),
      sized: () => this.widths && this.stretch(),
    });
    this.box.style.setProperty("--row", `${this.viewport.rowHeight}px`);
    this.listen();
    this.viewport.total = this.spec.rows ?? 0; // empty rows, until there are some
    this.layout();
  }

  listen() {
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("focus", () => this.mark());
    this.box.addEventListener("blur", () => this.mark());
    this.pane.addEventListener("click", (event) => this.click(event));
    this.search.addEventListener("input", () => {
      this.query.search = this.search.value.trim();
      this.requeryLater();
    });
    addEventListener("beforeprint", () => this.print());
  }

  get pause() {
    return this.spec.url ? 250 : 120;
  }

  async start() {
    if (this.spec.url) {
      this.source = new RemoteSource(this.spec, () => this.renew(), (error) => this.failed(error));
    } else {
      const block = this.element.querySelector("[data-rows]");
      const table = await unpack(block.textContent);
      block.remove();
      this.source = new LocalSource(this.columns, table);
    }
    await this.requery();
    this.layout();
  }

  // --- what is asked for -------------------------------------------------------------------------------------------------------------

  async requery() {
    if (!this.source) return;
    const query = { ...this.query, filters: { ...this.query.filters } };
    this.box.setAttribute("aria-busy", "true");
    this.head.sorted(query);
    try {
      await this.source.apply(query);
    } catch {
      return; // said by `failed`
    } finally {
      this.box.removeAttribute("aria-busy");
    }
    this.active.row = Math.min(this.active.row, 0);
    this.selection.anchor = 0;
    this.renew(false);
    this.pictures();
  }

  // The rows have changed: draws them, and says how many.
  renew(keepPlace = true) {
    const { total, of } = this.source;
    this.viewport.setTotal(total, keepPlace);
    this.active.row = Math.min(this.active.row, total - 1);
    this.box.setAttribute("aria-rowcount", total + 2);
    const said = total === of ? counted(of, "row") : `${total.toLocaleString("en")} of ${counted(of, "row")}`;
    if (this.count.textContent !== said) this.count.textContent = said;
    const filtered = Boolean(this.query.search) || Object.values(this.query.filters).some(Boolean);
    this.unfilter.hidden = !filtered;
    this.empty.hidden = total > 0;
    this.empty.textContent = filtered ? "No row passes the filters." : "There are no rows yet.";
    this.mark();
    this.redetail();
  }

  async refresh() {
    await this.ready;
    await this.source.refresh(...this.viewport.inSight);
  }

  failed(error) {
    if (error instanceof FilterError && error.column) this.head.say(error.column, error.message);
    const text = error === null || error.column ? "" : error instanceof FilterError ? error.message : `No answer from the server (${error.message}).`;
    this.note.hidden = !text;
    if (this.note.textContent !== text) this.note.textContent = text;
  }

  sortBy(column) {
    const first = column.direction ? column.direction === "max" : NUMERIC.has(column.kind) && column.kind !== "integer";
    if (this.query.sort !== column.name) Object.assign(this.query, { sort: column.name, descending: first });
    else if (this.query.descending === first) this.query.descending = !first;
    else Object.assign(this.query, { sort: null, descending: false });
    return this.requery();
  }

  // What cannot be understood is said beside the field, once the reader pauses; the table stays as it is.
  filterBy(column, text) {
    const input = this.head.inputs.get(column.name);
    clearTimeout(input.timer);
    try {
      parseFilter(text, column.kind, column.digits);
    } catch (error) {
      input.timer = setTimeout(() => this.head.say(column.name, error.message), 2 * this.pause);
      return;
    }
    this.head.say(column.name, null);
    this.query.filters[column.name] = text.trim();
    this.requeryLater();
  }

  requeryLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.requery(), this.pause);
  }

  clearFilters() {
    this.search.value = "";
    for (const [name, input] of this.head.inputs) {
      clearTimeout(input.timer);
      input.value = "";
      this.head.say(name, null);
    }
    Object.assign(this.query, { filters: {}, search: "" });
    this.box.focus();
    return this.requery();
  }

  // --- what is shown -----------------------------------------------------------------------------------------------------------------

  layout() {
    this.shown = this.columns.filter((column) => this.chosen.has(column.name));
    const widths = this.head.template(this.shown, this.samples());
    this.stretch(widths);
    this.head.show(this.shown, this.query, this.selection.all);
    this.box.setAttribute("aria-colcount", this.shown.length + 1);
    this.active.place = Math.min(this.active.place, this.shown.length);
    this.places = this.shown.map((column) => this.columns.indexOf(column));
    this.viewport.slots.splice(0).forEach((element) => element.remove());
    this.viewport.resize();
    this.mark();
    if (this.source) this.pictures();
  }

  // Columns share the room that is left. Whole pixels, so that rows need no layout of their own.
  stretch(widths = this.widths) {
    this.widths = widths;
    const sum = widths.reduce((total, width) => total + width, 0);
    const pick = parseFloat(getComputedStyle(this.element).getPropertyValue("--pick"));
    const factor = Math.max(1, (this.box.clientWidth - pick) / sum);
    const tracks = `${pick}px ${widths.map((width) => `${Math.floor(width * factor)}px`).join(" ")}`;
    if (tracks === this.tracks) return;
    this.tracks = tracks;
    this.sizer.style.setProperty("--tracks", tracks);
    this.sizer.style.minWidth = `${pick + sum}px`;
  }

  // Drawn when the browser has time: rows come first.
  pictures() {
    if (!this.source.table) return;
    const columns = this.shown.map((column, at) => [column, this.places[at]]);
    (window.requestIdleCallback ?? setTimeout)(() => drawHistograms(columns, this.source.table, this.source.passing.rows, this.head.pictures));
  }

  samples() {
    if (!this.source) return [];
    const rows = [];
    const step = Math.max(1, Math.floor(this.source.total / SAMPLED));
    for (let at = 0; at < this.source.total && rows.length < SAMPLED; at += this.spec.url ? 1 : step) {
      const row = this.source.row(at);
      if (!row) break;
      rows.push(row);
    }
    return rows;
  }

  fill(element, at) {
    const row = this.source?.row(at) ?? null;
    fillRow(element, at, row, this.shown, this.places, { chosen: row !== null && this.selection.has(row), active: at === this.active.row });
  }

  // Shows which cell the keyboard is at.
  mark() {
    for (const cell of this.box.querySelectorAll(".here")) {
      cell.classList.remove("here");
      cell.removeAttribute("id");
    }
    for (const element of this.viewport.slots) element.classList.toggle("active", element.at === this.active.row);
    const row = this.active.row < 0 ? this.head.labels : this.viewport.rowElement(this.active.row);
    const cell = row?.children[this.active.place];
    if (!cell) return this.box.removeAttribute("aria-activedescendant");
    cell.id = `${this.id}-here`;
    cell.classList.add("here");
    this.box.setAttribute("aria-activedescendant", cell.id);
  }

  moveTo(row, place = this.active.place) {
    if (!this.source) return;
    this.active = { row: Math.min(Math.max(row, -1), this.source.total - 1), place: Math.min(Math.max(place, 0), this.shown.length) };
    if (this.active.row >= 0) this.viewport.scrollTo(this.active.row);
    this.mark();
    const cell = this.box.querySelector(".here");
    if (cell && this.active.place > 1) this.reveal(cell);
    else if (cell) this.box.scrollLeft = 0;
    this.redetail();
  }

  // Scrolls sideways until a cell is not below the first column, which stays.
  reveal(cell) {
    const kept = this.head.labels.children[1].getBoundingClientRect();
    const [box, rect] = [this.box.getBoundingClientRect(), cell.getBoundingClientRect()];
    if (rect.left < kept.right) this.box.scrollLeft -= kept.right - rect.left;
    else if (rect.right > box.left + this.box.clientWidth) this.box.scrollLeft += Math.min(rect.right - box.left - this.box.clientWidth, rect.left - kept.right);
  }

  // --- keys and clicks ---------------------------------------------------------------------------------------------------------------

  key(event) {
    if (event.target !== this.box) return this.fieldKey(event);
    const { row, place } = this.active;
    const control = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowUp: () => this.moveTo(row - 1),
      ArrowDown: () => this.moveTo(row + 1),
      ArrowLeft: () => (event.altKey ? this.widen(-12) : this.moveTo(row, place - 1)),
      ArrowRight: () => (event.altKey ? this.widen(12) : this.moveTo(row, place + 1)),
      Home: () => (control ? this.moveTo(0, 1) : this.moveTo(row, 1)),
      End: () => (control ? this.moveTo(this.source.total - 1, this.shown.length) : this.moveTo(row, this.shown.length)),
      PageUp: () => this.moveTo(Math.max(row - this.viewport.page, Math.min(row, 0))),
      PageDown: () => this.moveTo(row + this.viewport.page),
      Enter: () => (row < 0 ? this.headKey(place) : this.openDetail()),
      " ": () => (row < 0 ? this.headKey(place) : event.shiftKey ? this.selection.extend(row) : this.selection.toggle(row)),
      Escape: () => this.closeDetail(),
    };
    if (control) Object.assign(moves, { a: () => this.selection.take(0, this.source.total), c: () => this.selection.copy() });
    if (!moves[event.key] || !this.source || (control && event.key === "c" && String(getSelection()))) return;
    event.preventDefault();
    moves[event.key]();
    if (event.shiftKey && ["ArrowUp", "ArrowDown"].includes(event.key) && this.active.row >= 0) this.selection.extend(this.active.row);
  }

  fieldKey(event) {
    if (event.target.tagName !== "INPUT") return;
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      this.box.focus();
      this.moveTo(0);
    } else if (event.key === "Escape" && event.target.value) {
      event.preventDefault();
      event.target.value = "";
      event.target.dispatchEvent(new Event("input"));
    }
  }

  headKey(place) {
    if (place === 0) this.selection.toggleAll();
    else this.sortBy(this.shown[place - 1]).then(() => ((this.active.row = -1), this.mark()));
  }

  widen(step) {
    const column = this.shown[this.active.place - 1];
    if (column) this.head.setWidth(column, this.head.cells.get(column.name).offsetWidth + step);
  }

  click(event) {
    const element = event.target.closest(".row");
    if (!element || element.classList.contains("waiting") || String(getSelection())) return;
    const place = [...element.children].indexOf(event.target.closest(".cell"));
    this.box.focus({ preventScroll: true });
    this.active = { row: element.at, place: Math.max(place, 0) };
    if (event.shiftKey) this.selection.extend(element.at);
    else if (place === 0 || event.ctrlKey || event.metaKey) this.selection.toggle(element.at);
    else this.openDetail();
    this.mark();
  }

  picked() {
    this.viewport.draw(true);
    this.mark();
    this.emit("grid:select", { keys: [...this.selection.rows.keys()] });
  }

  // Says something for a moment, where the number of rows stands.
  say(text) {
    clearTimeout(this.saying);
    this.count.textContent = text;
    this.saying = setTimeout(() => this.renew(), 3000);
  }

  // --- details and print -------------------------------------------------------------------------------------------------------------

  openDetail() {
    const row = this.source.row(this.active.row);
    if (!row) return;
    this.detail.show(row);
    this.detailed = JSON.stringify(row);
    const values = Object.fromEntries(this.columns.map((column, place) => [column.name, row.values[place]]));
    this.emit("grid:open", { key: row.key, values, place: this.detail.more });
    this.viewport.resize();
    this.viewport.scrollTo(this.active.row);
    // On a phone the panel lies over the lower part of the window.
    const below = this.viewport.rowElement(this.active.row)?.getBoundingClientRect().bottom - this.detail.element.getBoundingClientRect().top;
    if (getComputedStyle(this.detail.element).position === "fixed" && below > 0) scrollBy(0, below);
  }

  redetail() {
    const row = this.detail.open && this.active.row >= 0 ? this.source.row(this.active.row) : null;
    if (row && JSON.stringify(row) !== this.detailed) this.openDetail();
  }

  closeDetail() {
    if (!this.detail.open) return;
    this.detail.hide();
    this.box.focus({ preventScroll: true });
    this.viewport.resize();
  }

  emit(name, detail) {
    this.element.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }

  print() {
    const target = this.element.querySelector(".grid-print");
    if (!this.source || !target) return;
    const rows = Array.from({ length: Math.min(PRINTED, this.source.total) }, (_, at) => this.source.row(at)).filter(Boolean);
    const cells = rows.map((row) => this.shown.map((column, place) => written(row.values[this.places[place]], column)));
    target.replaceChildren(...printedTables(this.spec.label, this.shown, cells, this.source.total));
  }
}
