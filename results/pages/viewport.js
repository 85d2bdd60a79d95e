// Which rows are in sight: a few dozen elements for any number of rows.
//
// Browsers cannot scroll elements of more than about 17 million pixels, so what is scrolled is at most TALLEST high. The rows lie in a pane
// that stays in sight and are moved within it: up to TALLEST a row's place is exact, above it the scroll bar's place is scaled, while
// small steps (a wheel, a finger, a key) still move by as many pixels as they say.

const TALLEST = 8000000;
const SPARE_ROWS = 6;
const FARTHEST = 1000000; // pixels between rows and their layer's origin
const SETTLED = 160; // milliseconds without scrolling until the bar is put where the rows are

class Viewport {
  // `fill(element, at)` writes row `at` into an element made by `makeRow`, `drawn(first, last)` is told what is in sight, `sized()` that the
  // box has another size.
  constructor({ box, sizer, head, pane, rowHeight, makeRow, fill, drawn, sized }) {
    Object.assign(this, { box, sizer, head, pane, rowHeight, makeRow, fill, drawn, sized });
    this.total = 0;
    this.top = 0; // of the rows' own height, in pixels
    this.last = 0; // the box's scrollTop as known
    this.slots = [];
    this.origin = 0; // of the layer, in the rows' own height
    this.layer = make("div", { class: "grid-layer", role: "presentation" });
    this.pane.append(this.layer);
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.box);
    this.observer.observe(this.head);
  }

  get full() {
    return this.total * this.rowHeight;
  }

  get farthest() {
    return Math.max(0, this.full - this.paneHeight);
  }

  setTotal(total, keepPlace) {
    this.total = total;
    if (!keepPlace) this.top = 0;
    this.resize();
  }

  resize() {
    this.sized();
    const headHeight = this.head.offsetHeight;
    this.pane.style.top = `${headHeight}px`;
    this.sizer.style.height = `${headHeight + Math.max(this.rowHeight * 2, Math.min(this.full, TALLEST))}px`;
    this.paneHeight = Math.max(0, this.box.clientHeight - headHeight);
    this.pane.style.height = `${this.paneHeight}px`;
    this.top = Math.min(this.top, this.farthest);
    this.settle();
    this.draw(true);
  }

  scrolled() {
    const at = this.box.scrollTop;
    const step = at - this.last;
    if (step === 0) return;
    this.last = at;
    const end = this.box.scrollHeight - this.box.clientHeight;
    const scaled = this.full > TALLEST;
    if (!scaled) this.top = at;
    else if (at <= 0) this.top = 0;
    else if (at >= end - 1) this.top = this.farthest;
    else if (Math.abs(step) < this.paneHeight) this.top += step;
    else this.top = (at / end) * this.farthest;
    this.top = Math.min(Math.max(this.top, 0), this.farthest);
    this.draw();
    if (!scaled) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), SETTLED);
  }

  // Puts the scroll bar where the rows are.
  settle() {
    const end = this.box.scrollHeight - this.box.clientHeight;
    const at = this.full > TALLEST ? (this.farthest ? (this.top / this.farthest) * end : 0) : this.top;
    if (Math.abs(this.box.scrollTop - at) >= 1) this.box.scrollTop = at;
    this.last = this.box.scrollTop;
  }

  scrollTo(row) {
    const start = row * this.rowHeight;
    if (start < this.top) this.top = start;
    else if (start + this.rowHeight > this.top + this.paneHeight) this.top = start + this.rowHeight - this.paneHeight;
    else return;
    this.top = Math.min(Math.max(this.top, 0), this.farthest);
    this.settle();
    this.draw();
  }

  get inSight() {
    const first = Math.floor(this.top / this.rowHeight);
    return [first, Math.min(this.total, Math.ceil((this.top + this.paneHeight) / this.rowHeight))];
  }

  get page() {
    return Math.max(1, Math.floor(this.paneHeight / this.rowHeight) - 1);
  }

  draw(anew = false) {
    const count = Math.ceil(this.paneHeight / this.rowHeight) + 1 + 2 * SPARE_ROWS;
    if (this.slots.length !== count) {
      while (this.slots.length > count) this.slots.pop().remove();
      while (this.slots.length < count) {
        const element = this.makeRow();
        this.slots.push(element);
        this.layer.append(element);
      }
      anew = true;
    }
    // A step moves the layer alone; rows are placed in it when they come into sight.
    if (anew || Math.abs(this.top - this.origin) > FARTHEST) {
      this.origin = this.top;
      anew = true;
    }
    this.layer.style.transform = `translateY(${this.origin - this.top}px)`;
    const first = Math.max(0, Math.floor(this.top / this.rowHeight) - SPARE_ROWS);
    for (let at = first; at < first + count; at++) {
      const element = this.slots[at % count];
      const present = at < this.total;
      if (!anew && element.at === at) continue;
      element.at = at;
      element.hidden = !present;
      if (!present) continue;
      element.style.transform = `translateY(${at * this.rowHeight - this.origin}px)`;
      this.fill(element, at);
    }
    const [from, to] = this.inSight;
    this.drawn(from, to);
  }

  rowElement(at) {
    const element = this.slots.length ? this.slots[at % this.slots.length] : null;
    return element && element.at === at && !element.hidden ? element : null;
  }
}
