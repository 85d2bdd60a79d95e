// Reads what packing.py wrote: base64 of gzip of a head and columns.

async function unpack(text) {
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let at = 4 + length;
  const take = (size) => bytes.subarray(at, (at += size));
  return { rows: head.rows, columns: head.columns.map((column) => unpackColumn(column, head.rows, take)) };
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

function unpackColumn(head, rows, take) {
  if (head.as === "float") return { numbers: unpackFloats(take(8 * rows), rows) };
  const codes = unpackWhole(take(head.width * rows), rows, head.width, head.steps);
  if (head.as === "text") return { texts: head.values, codes };
  const numbers = new Float64Array(rows);
  if (head.as === "listed") {
    const values = Float64Array.from([NaN, ...head.values]);
    for (let row = 0; row < rows; row++) numbers[row] = values[codes[row]];
    return { numbers };
  }
  if (head.as === "scaled") {
    // Whole numbers over a power of ten: the double nearest to the decimal number.
    const scale = 10 ** head.decimals;
    for (let row = 0; row < rows; row++) numbers[row] = codes[row] ? (codes[row] - 1 + head.least) / scale : NaN;
    return { numbers };
  }
  const exponents = take(rows);
  const powers = Array.from({ length: 23 }, (_, power) => Number(`1e${power}`));
  for (let row = 0; row < rows; row++) {
    const code = codes[row] - 1;
    const mantissa = code & 1 ? -(code + 1) / 2 : code / 2;
    const exponent = exponents[row] - 128;
    numbers[row] = code < 0 ? NaN : exponent < 0 ? mantissa / powers[-exponent] : mantissa * powers[exponent];
  }
  return { numbers };
}

function unpackWhole(bytes, rows, width, steps) {
  const codes = new Uint32Array(rows);
  for (let place = 0; place < width; place++) {
    const factor = 2 ** (8 * place);
    for (let row = 0; row < rows; row++) codes[row] += bytes[place * rows + row] * factor;
  }
  if (!steps) return codes;
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    const step = codes[row];
    sum += step & 1 ? -(step + 1) / 2 : step / 2;
    codes[row] = sum;
  }
  return codes;
}

function unpackFloats(bytes, rows) {
  const whole = new Uint8Array(8 * rows);
  for (let place = 0; place < 8; place++) for (let row = 0; row < rows; row++) whole[8 * row + place] = bytes[place * rows + row];
  return new Float64Array(whole.buffer);
}
