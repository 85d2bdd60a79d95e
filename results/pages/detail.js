// The panel beside a grid that has all the values of one row.

class Detail {
  // `step` moves to the row before (-1) or after (1), `closed` is called when the reader closes the panel.
  constructor(columns, step, closed) {
    this.columns = columns;
    this.title = make("h3", {});
    this.list = make("dl", {});
    this.more = make("div", { class: "detail-more" });
    const button = (name, label, onclick) => make("button", { type: "button", class: "tool", title: label, "aria-label": label, onclick }, icon(name));
    this.element = make(
      "aside",
      { class: "grid-detail", "aria-label": "Details of the row", hidden: true },
      make(
        "header",
        {},
        this.title,
        button("up", "Row above", () => step(-1)),
        button("down", "Row below", () => step(1)),
        button("close", "Close details", closed),
      ),
      make("div", { class: "detail-body", tabindex: "0", role: "region", "aria-label": "Values" }, this.list, this.more),
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      closed();
    });
  }

  get open() {
    return !this.element.hidden;
  }

  show(row) {
    const [first] = this.columns;
    this.title.textContent = `${first.label} ${written(row.values[0], first)}`;
    this.list.replaceChildren(
      ...this.columns.map((column, place) => {
        const value = row.values[place];
        const shown = make("span", isMissing(value) ? { class: "missing" } : {}, precisely(value, column));
        const tone = column.tones[value];
        if (tone) shown.className = `badge ${tone}`;
        const unit = column.unit ? [make("small", {}, ` ${column.unit}`)] : [];
        const help = column.help ? [make("p", {}, column.help)] : [];
        return make("div", {}, make("dt", {}, column.label), make("dd", {}, shown, ...unit), ...help);
      }),
    );
    this.more.replaceChildren();
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}
