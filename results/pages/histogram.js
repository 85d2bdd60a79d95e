// Small pictures in the headings of what is in a column: all rows in grey, those that pass the filters in colour.

const BINS = 30;
const LOOKED_AT = 4000; // rows that decide on the range
const TALL = 16;

// Draws the shown columns of a table, given the rows that pass, into elements by name; without rows in the page there is nothing to draw.
function drawHistograms(columns, table, passing, places) {
  for (const [column, place] of columns) {
    const target = places.get(column.name);
    const held = table.columns[place];
    held.bins ??= held.numbers ? numberBins(held.numbers) : textBins(held);
    if (!held.bins) continue;
    held.all ??= tallied(held, null, table.rows);
    const some = passing.length < table.rows ? tallied(held, passing, passing.length) : null;
    target.replaceChildren(picture(held.all, some));
  }
}

function numberBins(numbers) {
  const step = Math.max(1, Math.floor(numbers.length / LOOKED_AT));
  const seen = [];
  for (let row = 0; row < numbers.length; row += step) if (Number.isFinite(numbers[row])) seen.push(numbers[row]);
  if (seen.length < 2) return null;
  seen.sort((a, b) => a - b);
  const different = [...new Set(seen)];
  if (different.length <= BINS) {
    const steps = new Map(different.map((value, bin) => [value, bin]));
    return { count: different.length, of: (value) => steps.get(value) ?? -1 };
  }
  const [low, high] = range(seen);
  if (different.every(Number.isInteger)) {
    // Bins as wide as a whole number of whole numbers: no comb.
    const width = Math.ceil((high - low + 1) / BINS);
    const count = Math.ceil((high - low + 1) / width);
    return { count, of: (value) => Math.min(count - 1, Math.max(0, Math.floor((value - low) / width))) };
  }
  const log = low > 0 && high / low > 200;
  const scale = log ? Math.log : (value) => value;
  const [least, width] = [scale(low), (scale(high) - scale(low)) / BINS];
  // What lies beyond the range counts in the first and the last bin.
  return { count: BINS, of: (value) => Math.min(BINS - 1, Math.max(0, Math.floor((scale(log ? Math.max(value, low) : value) - least) / width))) };
}

// All of it, or without the far ends where these would squeeze the rest.
function range(sorted) {
  const [least, most] = [sorted[0], sorted.at(-1)];
  const low = sorted[Math.floor(0.01 * sorted.length)];
  const high = sorted[Math.ceil(0.99 * sorted.length) - 1];
  return low < high && most - least > 3 * (high - low) ? [low, high] : [least, most];
}

function textBins(held) {
  const count = held.texts.length;
  return count > 1 && count <= BINS ? { count } : null;
}

function tallied(held, rows, count) {
  const tally = new Uint32Array(held.bins.count);
  const { numbers, codes } = held;
  for (let at = 0; at < count; at++) {
    const row = rows ? rows[at] : at;
    if (!numbers) {
      if (codes[row]) tally[codes[row] - 1]++;
      continue;
    }
    const value = numbers[row];
    if (Number.isNaN(value)) continue;
    const bin = held.bins.of(value);
    if (bin >= 0) tally[bin]++;
  }
  return tally;
}

function picture(all, some) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${all.length} ${TALL}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", some ? "bars filtered" : "bars");
  svg.setAttribute("aria-hidden", "true");
  svg.append(bars(all, "all"), ...(some ? [bars(some, "some")] : []));
  return svg;
}

function bars(tally, name) {
  const most = Math.max(1, ...tally);
  let line = "";
  tally.forEach((count, bin) => {
    // One row among thousands still shows.
    const height = count ? Math.max(0.8, (TALL * count) / most) : 0;
    if (height) line += `M${bin + 0.07} ${TALL}v${-height.toFixed(2)}h0.86V${TALL}z`;
  });
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", line);
  path.setAttribute("class", name);
  return path;
}
