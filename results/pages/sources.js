// Where a grid's rows come from. Both kinds have: total, of, apply(query), ensure(from, to), row(at), range(from, to), refresh(from, to).
// A row is {key, values}; a query is {sort, descending, filters: {name: text}, search}.

class LocalSource {
  constructor(columns, table) {
    this.columns = columns;
    this.table = table;
    this.of = this.total = table.rows;
    this.own = counting(table.rows);
    this.view = this.own;
    this.passing = { key: null, rows: this.own };
  }

  async apply(query) {
    const passing = this.filtered(query);
    const place = this.columns.findIndex((column) => column.name === query.sort);
    this.view = place < 0 ? passing : sortedRows(passing, this.table.columns[place], query.descending);
    this.total = this.view.length;
  }

  filtered(query) {
    const key = JSON.stringify([query.filters, query.search]);
    if (this.passing.key === key) return this.passing.rows;
    const masks = [];
    this.columns.forEach((column, place) => {
      const typed = query.filters[column.name];
      if (typed) masks.push(filterMask(parseFilter(typed, column.kind, column.digits), this.table.columns[place], this.of));
    });
    for (const word of query.search.toLowerCase().split(/\s+/).filter(Boolean)) masks.push(this.searched(word));
    const rows = new Uint32Array(this.of);
    let count = 0;
    for (let row = 0; row < this.of; row++) if (masks.every((mask) => mask[row])) rows[count++] = row;
    this.passing = { key, rows: rows.subarray(0, count) };
    return this.passing.rows;
  }

  searched(word) {
    const found = new Uint8Array(this.of);
    const whole = /^-?[0-9]{1,15}$/.test(word) ? Number(word) : null;
    this.columns.forEach((column, place) => {
      let filter = null;
      if (!NUMERIC.has(column.kind)) filter = makeFilter("contains", { text: word });
      else if (column.kind === "integer" && whole !== null) filter = makeFilter("range", { low: whole, high: whole });
      if (!filter) return;
      const mask = filterMask(filter, this.table.columns[place], this.of);
      for (let row = 0; row < this.of; row++) found[row] |= mask[row];
    });
    return found;
  }

  ensure() {}

  row(at) {
    const row = this.view[at];
    return row === undefined ? null : { key: row, values: this.table.columns.map((column) => valueOf(column, row)) };
  }

  async range(from, to) {
    return Array.from(this.view.subarray(from, to), (row) => ({ key: row, values: this.table.columns.map((column) => valueOf(column, row)) }));
  }

  async refresh() {}
}

function valueOf(column, row) {
  if (column.numbers) return column.numbers[row];
  return column.codes[row] ? column.texts[column.codes[row] - 1] : null;
}

const BLOCK = 200;
const BLOCKS_KEPT = 60;
const DOWNLOADED = 1000;
const AGAIN = 3000; // milliseconds until rows that did not come are asked for again

class RemoteSource {
  // `changed` is called when rows have come in, `failed` with a message when they have not (and null when they do again).
  constructor(spec, changed, failed) {
    this.columns = spec.columns;
    this.url = spec.url;
    this.keyed = spec.key;
    this.changed = changed;
    this.failed = failed;
    this.total = this.of = 0;
    this.blocks = new Map();
    this.asked = new Map();
    this.version = null;
    this.query = { sort: null, descending: false, filters: {}, search: "" };
  }

  async apply(query) {
    const before = this.query;
    this.query = query;
    this.cancel();
    this.applying = true; // until then the rows in sight are those of the query before
    try {
      const answer = await this.fetch(0, BLOCK, "apply");
      this.blocks = new Map();
      this.take(0, answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof FilterError) this.query = before;
      this.failed(error);
      throw error;
    } finally {
      if (this.query === query || this.query === before) this.applying = false;
    }
  }

  take(block, answer) {
    this.total = answer.total;
    if (answer.of !== undefined) this.of = answer.of;
    else if (!this.query.search && !Object.values(this.query.filters).some(Boolean)) this.of = answer.total;
    this.of = Math.max(this.of, this.total);
    this.version = answer.version ?? null;
    this.blocks.delete(block);
    this.blocks.set(block, answer.rows.map((values) => ({ key: values[this.keyed], values })));
    while (this.blocks.size > BLOCKS_KEPT) this.blocks.delete(this.blocks.keys().next().value);
    this.failed(null);
  }

  ensure(from, to) {
    if (this.applying) return;
    for (let block = Math.floor(from / BLOCK); block * BLOCK < to; block++) {
      if (this.blocks.has(block) || this.asked.has(block)) continue;
      this.fetch(block * BLOCK, BLOCK, block)
        .then((answer) => {
          this.take(block, answer);
          this.changed();
        })
        .catch((error) => {
          if (error.name === "AbortError") return;
          this.failed(error);
          setTimeout(this.changed, AGAIN);
        });
    }
    // What was scrolled past is not waited for.
    for (const [block, control] of this.asked) {
      if (typeof block !== "number" || (block * BLOCK < to + BLOCK && (block + 2) * BLOCK > from)) continue;
      control.abort();
      this.asked.delete(block);
    }
  }

  row(at) {
    return this.blocks.get(Math.floor(at / BLOCK))?.[at % BLOCK] ?? null;
  }

  async range(from, to, progress = () => {}) {
    const rows = [];
    for (let start = from; start < to; start += DOWNLOADED) {
      const count = Math.min(DOWNLOADED, to - start);
      const answer = await this.fetch(start, count, `range ${start}`);
      rows.push(...answer.rows.map((values) => ({ key: values[this.keyed], values })));
      progress(rows.length);
      if (answer.rows.length < count) break;
    }
    return rows;
  }

  // Asks again for the rows in sight; the others are forgotten, and asked for when they come into sight.
  async refresh(from, to) {
    const first = Math.floor(from / BLOCK);
    const last = Math.max(first, Math.floor(Math.max(to - 1, from) / BLOCK));
    try {
      const answers = await Promise.all(
        Array.from({ length: last - first + 1 }, (_, at) => this.fetch((first + at) * BLOCK, BLOCK, `refresh ${first + at}`)),
      );
      if (answers.every((answer) => answer.version !== undefined && answer.version === this.version)) return this.failed(null);
      this.blocks = new Map();
      answers.forEach((answer, at) => this.take(first + at, answer));
      this.changed();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    }
  }

  cancel() {
    for (const control of this.asked.values()) control.abort();
    this.asked.clear();
  }

  async fetch(from, count, name) {
    const { sort, descending, filters, search } = this.query;
    const address = new URL(this.url, document.baseURI);
    if (sort !== null) {
      address.searchParams.set("sort", sort);
      address.searchParams.set("dir", descending ? "desc" : "asc");
    }
    address.searchParams.set("from", from);
    address.searchParams.set("n", count);
    const columns = Object.fromEntries(Object.entries(filters).filter(([, text]) => text));
    if (search || Object.keys(columns).length) address.searchParams.set("filter", JSON.stringify({ columns, search }));
    this.asked.get(name)?.abort();
    const control = new AbortController();
    this.asked.set(name, control);
    try {
      const response = await fetch(address, { signal: control.signal, credentials: "same-origin", cache: "no-store" });
      const answer = await response.json().catch(() => ({}));
      if (response.ok && Array.isArray(answer.rows)) return answer;
      const error = new (response.status === 400 ? FilterError : Error)(answer.error ?? `the server answered with status ${response.status}`);
      error.column = answer.column;
      throw error;
    } finally {
      if (this.asked.get(name) === control) this.asked.delete(name);
    }
  }
}
