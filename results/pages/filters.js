// The language of filters; filters.py means the same by it, and says what it means. One table of cases tests both.

class FilterError extends Error {}

const SECONDS = { "": 1, ms: 0.001, s: 1, m: 60, min: 60, h: 3600, d: 86400 };
const NUMBER = /^([+-]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?(?:e([+-]?\d{1,3}))?\s*(%|ms|s|min|m|h|d)?$/i;
const LONGEST = 200;

// A filter is {test, negated, low, high, lowOpen, highOpen, text}; test is all, missing, range, contains or equals.
function makeFilter(test, given = {}) {
  return { test, negated: false, low: -Infinity, high: Infinity, lowOpen: false, highOpen: false, text: "", ...given };
}

function parseFilter(typed, kind, digits = null) {
  if (typed.length > LONGEST) throw new FilterError(`a filter has at most ${LONGEST} characters`);
  const text = typed.trim();
  if (!text) return makeFilter("all");
  if (text.startsWith("!") && !text.startsWith("!=")) {
    const rest = text.slice(1).trim();
    if (!rest) throw new FilterError("after ! comes what to leave out, e.g. !failed");
    const inner = parseFilter(rest, kind, digits);
    return { ...inner, negated: !inner.negated };
  }
  return NUMERIC.has(kind) ? numericFilter(text, kind, digits) : textFilter(text);
}

function textFilter(text) {
  for (const operator of ["==", "!=", "="]) {
    if (!text.startsWith(operator)) continue;
    const rest = unquoted(text.slice(operator.length).trim());
    if (!rest) throw new FilterError(`after ${operator} comes a text, e.g. ${operator} done`);
    const test = rest.toLowerCase() === NA ? "missing" : "equals";
    return makeFilter(test, { negated: operator === "!=", text: rest.toLowerCase() });
  }
  if (text.toLowerCase() === NA) return makeFilter("missing");
  if (/^[<>]=?/.test(text)) throw new FilterError("this column is text: write a part of it, = all of it, or !part to leave out");
  return makeFilter("contains", { text: unquoted(text).toLowerCase() });
}

function unquoted(text) {
  return text.length > 1 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text;
}

function numericFilter(typed, kind, digits) {
  const text = typed.replace(/≥/g, ">=").replace(/≤/g, "<=").replace(/≠/g, "!=").replace(/−/g, "-").replace(/…/g, "..");
  const operator = [">=", "<=", "!=", "==", ">", "<", "="].find((sign) => text.startsWith(sign)) ?? "";
  const rest = text.slice(operator.length).trim();
  if (["", "=", "==", "!="].includes(operator) && rest.toLowerCase() === NA) return makeFilter("missing", { negated: operator === "!=" });
  if (operator === "" && rest.includes("..")) {
    const at = rest.indexOf("..");
    return betweenFilter(rest.slice(0, at).trim(), rest.slice(at + 2).trim(), kind);
  }
  if (!rest) throw new FilterError(`after ${operator} comes a number, e.g. ${operator} 1.5`);
  const [value, half] = parseNumber(rest, kind, digits);
  if (operator === ">" || operator === ">=") return makeFilter("range", { low: value, lowOpen: operator === ">" });
  if (operator === "<" || operator === "<=") return makeFilter("range", { high: value, highOpen: operator === "<" });
  return makeFilter("range", { negated: operator === "!=", low: value - half, high: value + half, highOpen: half > 0 });
}

function betweenFilter(low, high, kind) {
  if (!low && !high) throw new FilterError("a range needs an end, e.g. 1..2, 1.. or ..2");
  const least = low ? parseNumber(low, kind, null)[0] : -Infinity;
  const most = high ? parseNumber(high, kind, null)[0] : Infinity;
  if (least > most) throw new FilterError(`this range is empty: ${low} is more than ${high}`);
  return makeFilter("range", { low: least, high: most });
}

// A number in the column's own unit, and how far from it what is shown alike may lie.
function parseNumber(text, kind, digits) {
  if (/^[+-]?(inf|∞)$/i.test(text)) return [text.startsWith("-") ? -Infinity : Infinity, 0];
  const match = NUMBER.exec(text);
  if (!match || !(match[2] || match[3])) {
    throw new FilterError(`'${text}' is no number: write e.g. >= 1.5, < 0, 1..2, = 3 or n/a`);
  }
  const unit = (match[5] ?? "").toLowerCase();
  if ((unit === "%" && kind !== "percent") || (unit !== "" && unit !== "%" && kind !== "seconds")) {
    throw new FilterError(`'${text}': this column is not in ${match[5]}; write the number alone`);
  }
  const whole = (match[2] ?? "0").replaceAll(",", "");
  const decimals = match[3] ?? "";
  // The decimal point is moved in the text: 12.3 % is 0.123, which 12.3 / 100 is not.
  const shift = Number(match[4] ?? 0) - (kind === "percent" ? 2 : 0);
  const value = Number(`${match[1]}${whole}.${decimals || 0}e${shift}`) * (kind === "seconds" ? SECONDS[unit] : 1);
  if (!Number.isFinite(value)) throw new FilterError(`'${text}' is too large a number`);
  if (kind === "integer") return [value, 0];
  if (digits === null || match[4] !== undefined || kind === "seconds") return [value, Math.abs(value) * 1e-9];
  return [value, 0.5 * Number(`1e-${Math.max(decimals.length, digits) + (kind === "percent" ? 2 : 0)}`)];
}

function passesText(filter, text) {
  if (filter.test === "equals") return text.toLowerCase() === filter.text;
  return text.toLowerCase().includes(filter.text);
}

// Which rows of a column pass: a Uint8Array of 0 and 1. A column is {numbers} or {texts, codes}, where code 0 is no value.
function filterMask(filter, column, count) {
  const mask = new Uint8Array(count);
  const { test, low, high, lowOpen, highOpen } = filter;
  if (test === "all") mask.fill(1);
  else if (column.numbers) {
    const numbers = column.numbers;
    for (let row = 0; row < count; row++) {
      const value = numbers[row];
      if (test === "missing") mask[row] = Number.isNaN(value) ? 1 : 0;
      else mask[row] = (lowOpen ? value > low : value >= low) && (highOpen ? value < high : value <= high) ? 1 : 0;
    }
  } else {
    const hits = new Uint8Array(column.texts.length + 1);
    hits[0] = test === "missing" ? 1 : 0;
    if (test !== "missing") column.texts.forEach((text, code) => (hits[code + 1] = passesText(filter, text) ? 1 : 0));
    for (let row = 0; row < count; row++) mask[row] = hits[column.codes[row]];
  }
  if (filter.negated) for (let row = 0; row < count; row++) mask[row] ^= 1;
  return mask;
}
