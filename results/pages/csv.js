// Rows as CSV, as it is safe to open in a spreadsheet.

// A text that begins like a formula would be one: an apostrophe makes it text again.
function csvCell(value) {
  if (isMissing(value)) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r\n]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvLines(rows) {
  return rows.map((row) => row.values.map(csvCell).join(",") + "\r\n").join("");
}

function csvHead(columns) {
  return columns.map((column) => csvCell(column.name)).join(",") + "\r\n";
}

function saveFile(name, parts, type) {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages opened from files or without permission have the old way left.
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus?.();
    if (!copied) throw new Error("the browser does not allow copying here");
  }
}
