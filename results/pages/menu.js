// Small parts of a grid: elements, icons, the menu of columns.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "role" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9ZM10.3 10.3 14 14",
  columns: "M2.5 3h11v10h-11zM6.2 3v10M9.8 3v10",
  download: "M8 2.5v7.5M4.8 7.2 8 10.4l3.2-3.2M2.8 13.3h10.4",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  clear: "M2.5 3.5h11L9.5 8.6v4.4l-3-1.5V8.6zM2 14 14 2",
  up: "M8 12.5v-9M4.2 7.2 8 3.4l3.8 3.8",
  down: "M8 3.5v9M4.2 8.8 8 12.6l3.8-3.8",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function toolButton(name, label, onclick, shown = label) {
  return make("button", { type: "button", class: "tool", title: label, "aria-label": label, onclick }, icon(name), make("span", {}, shown));
}

// A button that opens a list of columns to choose from; `chosen` is a Set of names, `changed` is called after each change.
function columnsMenu(columns, chosen, changed) {
  const boxes = columns.map((column) =>
    make("input", { type: "checkbox", value: column.name, checked: chosen.has(column.name), onchange: () => choose([column.name]) }),
  );
  const sync = () => boxes.forEach((box) => (box.checked = chosen.has(box.value)));
  const choose = (names) => {
    for (const name of names) {
      if (boxes.find((box) => box.value === name).checked) chosen.add(name);
      else chosen.delete(name);
    }
    if (!chosen.size) chosen.add(columns[0].name);
    sync();
    changed();
  };
  const all = (checked) => () => {
    boxes.forEach((box, at) => (box.checked = checked === null ? !columns[at].hidden : checked));
    choose(columns.map((column) => column.name));
  };
  const find = make("input", { type: "search", class: "menu-find", placeholder: "Find a column", "aria-label": "Find a column" });
  const items = columns.map((column, at) => make("label", { title: column.help }, boxes[at], make("span", {}, column.label)));
  find.addEventListener("input", () => {
    items.forEach((item) => (item.hidden = !item.textContent.toLowerCase().includes(find.value.trim().toLowerCase())));
  });
  const panel = make(
    "div",
    { class: "menu-panel", role: "group", "aria-label": "Columns shown", hidden: true },
    ...(columns.length > 12 ? [find] : []),
    make("div", { class: "menu-items" }, ...items),
    make(
      "div",
      { class: "menu-foot" },
      make("button", { type: "button", class: "plain", onclick: all(true) }, "All"),
      make("button", { type: "button", class: "plain", onclick: all(null) }, "As at first"),
    ),
  );
  const button = toolButton("columns", "Choose columns", () => open(panel.hidden), "Columns");
  button.setAttribute("aria-expanded", "false");
  const menu = make("div", { class: "menu" }, button, panel);
  const open = (opened) => {
    panel.hidden = !opened;
    button.setAttribute("aria-expanded", String(opened));
    if (opened) (columns.length > 12 ? find : boxes[0]).focus();
  };
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.hidden) return;
    open(false);
    button.focus();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => menu.contains(event.target) || open(false));
  menu.addEventListener("focusout", (event) => event.relatedTarget && !menu.contains(event.relatedTarget) && open(false));
  return menu;
}
