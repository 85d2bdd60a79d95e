// How values are written; columns.py writes the same (tests/results/pages/cases compares the two).

const NA = "n/a";
const NUMERIC = new Set(["number", "percent", "integer", "seconds"]);

function isMissing(value) {
  return value === null || value === undefined || Number.isNaN(value);
}

function written(value, column) {
  if (isMissing(value)) return NA;
  if (!NUMERIC.has(column.kind)) return String(value);
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (column.kind === "seconds") return duration(value);
  if (column.digits === null) return significant(value, 5);
  const shown = column.kind === "percent" ? value * 100 : value;
  return fixed(rounded(shown, column.digits, column.rounding), column.digits) + (column.kind === "percent" ? "%" : "");
}

// More digits, where there is room: the details of a row.
function precisely(value, column) {
  if (isMissing(value) || !NUMERIC.has(column.kind) || !Number.isFinite(value)) return written(value, column);
  if (column.kind === "seconds") return Math.abs(value) < 60 ? duration(value) : `${duration(value)} (${significant(value, 7)} s)`;
  if (column.kind === "percent") return significant(Number((value * 100).toPrecision(12)), 7) + "%";
  return significant(value, 9);
}

function fixed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  const sign = value < 0 && /[1-9]/.test(text) ? "−" : "";
  return sign + grouped(text);
}

function grouped(text) {
  const [whole, decimals] = text.split(".");
  const apart = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, ",") : whole;
  return decimals === undefined ? apart : `${apart}.${decimals}`;
}

function rounded(value, digits, rounding) {
  if (rounding === "nearest") return value;
  const scaled = value * 10 ** digits;
  // 0.29 · 100 is 28.999…: what is whole but for the last bits counts as whole.
  return (rounding === "down" ? Math.floor(scaled + 1e-6) : Math.ceil(scaled - 1e-6)) / 10 ** digits;
}

function significant(value, digits) {
  if (value === 0) return "0";
  const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
  if (exponent < -4 || exponent > 14) {
    const [mantissa, power] = Math.abs(value).toExponential(digits - 1).split("e");
    return `${value < 0 ? "−" : ""}${trimmed(mantissa)}e${Number(power)}`;
  }
  return trimmed(fixed(value, Math.max(0, digits - 1 - exponent)));
}

function trimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function duration(seconds) {
  const sign = seconds < 0 ? "−" : "";
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.0995) return `${sign}${significant(size * 1000, 3)} ms`;
  if (size < 59.95) return `${sign}${size.toFixed(size < 9.995 ? 2 : 1)} s`;
  const whole = Math.floor(size + 0.5);
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  if (hours < 1) return `${sign}${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (hours < 48) return `${sign}${hours} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${sign}${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

function counted(value, word) {
  return `${value.toLocaleString("en")} ${word}${value === 1 ? "" : "s"}`;
}
