// The rows a reader has picked, and what can be done with rows: copied, saved as a file.

const MOST_DOWNLOADED = 200000; // rows taken from a server at a time
const MOST_SELECTED = 10000;
const WRITTEN = 10000; // rows of a file at a time

class Selection {
  // `grid` has source, columns, spec, id, active; `changed()` is called when other rows are picked, `say(text)` tells the reader something.
  constructor(grid, changed, say) {
    Object.assign(this, { grid, changed, say });
    this.rows = new Map();
    this.anchor = 0;
    this.count = make("span", {});
    this.tools = make(
      "span",
      { class: "grid-chosen", hidden: true },
      this.count,
      toolButton("copy", "Copy selected rows as CSV", () => this.copy(), "Copy"),
      toolButton("close", "Clear the selection", () => this.clear(), "Clear"),
    );
    this.save = toolButton("download", "Download the filtered rows as CSV", () => this.download(), "CSV");
    this.all = make("div", { role: "columnheader", class: "cell pick", "aria-label": "Select all rows", title: "Select all rows" }, make("i"));
    this.all.addEventListener("click", () => this.toggleAll());
  }

  has(row) {
    return this.rows.has(row.key);
  }

  toggle(at) {
    const row = this.grid.source.row(at);
    if (!row) return;
    this.anchor = at;
    if (!this.rows.delete(row.key)) this.rows.set(row.key, row);
    this.show();
  }

  // From the row last picked to this one.
  extend(at) {
    return this.take(Math.min(this.anchor, at), Math.max(this.anchor, at) + 1);
  }

  async take(from, to) {
    const most = this.grid.spec.url ? MOST_SELECTED : Infinity;
    for (const row of await this.grid.source.range(from, Math.min(to, from + most))) this.rows.set(row.key, row);
    this.show(to - from > most ? ` (the first ${most.toLocaleString("en")})` : "");
  }

  toggleAll() {
    if (this.rows.size) this.clear();
    else this.take(0, this.grid.source.total);
  }

  clear() {
    this.rows.clear();
    this.show();
  }

  show(said = "") {
    const count = this.rows.size;
    this.tools.hidden = count === 0;
    this.count.textContent = `${count.toLocaleString("en")} selected${said}`;
    this.all.classList.toggle("some", count > 0);
    this.changed();
  }

  async copy() {
    const active = this.grid.source.row(this.grid.active.row);
    const rows = this.rows.size ? [...this.rows.values()] : active ? [active] : [];
    if (!rows.length) return;
    try {
      await copyText(csvHead(this.grid.columns) + csvLines(rows));
      this.say(`${counted(rows.length, "row")} copied`);
    } catch (error) {
      this.say(`Nothing copied: ${error.message}`);
    }
  }

  async download() {
    const { source, spec, columns, id } = this.grid;
    if (!source) return;
    const count = spec.url ? Math.min(source.total, MOST_DOWNLOADED) : source.total;
    this.save.disabled = true;
    try {
      const parts = [csvHead(columns)];
      for (let from = 0; from < count; from += WRITTEN) {
        const to = Math.min(from + WRITTEN, count);
        parts.push(csvLines(await source.range(from, to)));
        if (count > WRITTEN) this.say(`${to.toLocaleString("en")} of ${counted(count, "row")} written`);
      }
      saveFile(`${id}.csv`, parts, "text/csv;charset=utf-8");
      const all = count === source.total;
      this.say(all ? `${counted(count, "row")} saved` : `The first ${counted(count, "row")} saved, of ${source.total.toLocaleString("en")}`);
    } catch (error) {
      this.say(`Nothing saved: ${error.message}`);
    } finally {
      this.save.disabled = false;
    }
  }
}
