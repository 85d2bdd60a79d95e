// Sorting whole columns: a stable radix sort, so that 100,000 rows take milliseconds and equal ones keep their order.

// Rows in sorted order; those without a value come last both ways. `rows` are in the order that equal ones keep.
function sortedRows(rows, column, descending) {
  const values = column.numbers ?? ranks(column);
  const present = new Uint32Array(rows.length);
  const missing = [];
  let count = 0;
  for (const row of rows) {
    if (Number.isNaN(values[row])) missing.push(row);
    else present[count++] = row;
  }
  const sorted = radix(present.subarray(0, count), values, descending);
  const all = new Uint32Array(rows.length);
  all.set(sorted);
  all.set(missing, count);
  return all;
}

// A text's place in the alphabet, per row; kept with the column.
function ranks(column) {
  if (column.ranks) return column.ranks;
  const order = column.texts.map((_, code) => code).sort((a, b) => (column.texts[a] < column.texts[b] ? -1 : 1));
  const rank = new Float64Array(column.texts.length + 1);
  rank[0] = NaN;
  order.forEach((code, at) => (rank[code + 1] = at));
  column.ranks = new Float64Array(column.codes.length);
  column.codes.forEach((code, row) => (column.ranks[row] = rank[code]));
  return column.ranks;
}

function radix(rows, values, descending) {
  const count = rows.length;
  // The bits of a double sort like whole numbers once those of negative ones are turned over.
  const bits = new Uint32Array(new Float64Array([0]).buffer);
  const one = new Float64Array(bits.buffer);
  const low = new Uint32Array(count);
  const high = new Uint32Array(count);
  const flip = descending ? 0xffffffff : 0;
  for (let at = 0; at < count; at++) {
    one[0] = values[rows[at]] + 0; // -0 becomes 0
    const turned = bits[1] >>> 31 ? 0xffffffff : 0;
    low[at] = bits[0] ^ turned ^ flip;
    high[at] = bits[1] ^ (turned || 0x80000000) ^ flip;
  }
  let places = counting(count);
  let next = new Uint32Array(count);
  for (const [words, shift] of [[low, 0], [low, 16], [high, 0], [high, 16]]) {
    const starts = new Uint32Array(65537);
    for (let at = 0; at < count; at++) starts[((words[at] >>> shift) & 0xffff) + 1]++;
    if (starts.includes(count)) continue; // all alike here
    for (let digit = 0; digit < 65536; digit++) starts[digit + 1] += starts[digit];
    for (let at = 0; at < count; at++) next[starts[(words[places[at]] >>> shift) & 0xffff]++] = places[at];
    [places, next] = [next, places];
  }
  for (let at = 0; at < count; at++) next[at] = rows[places[at]];
  return next;
}

function counting(count) {
  const numbers = new Uint32Array(count);
  for (let at = 0; at < count; at++) numbers[at] = at;
  return numbers;
}
