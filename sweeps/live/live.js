// Keeps a page up to date: asks for its parts, puts in what has changed, and has the table ask for its rows again.

(() => {
  "use strict";
  const told = JSON.parse(document.getElementById("live").textContent);
  if (!told.url) return;
  const SOON = 500; // milliseconds until what is being worked out is asked for
  const SLOWER = 5000; // milliseconds between looks where nobody is at work
  const PATIENCE = 30000; // at most, where the server does not answer
  const banner = document.getElementById("connection");
  const table = document.getElementById(told.table);
  const shown = new Map();
  let version = told.version;
  let failures = 0;
  let timer = 0;
  let asking = false;

  document.querySelectorAll("[data-part]").forEach((element) => shown.set(element.id, element.innerHTML));

  function say(text, tone = "warn") {
    banner.hidden = !text;
    banner.className = text ? `notice ${tone}` : "";
    if (banner.textContent !== text) banner.textContent = text;
  }

  // HTML as the browser writes it.
  function normal(html) {
    const made = document.createElement("template");
    made.innerHTML = html;
    return made.innerHTML;
  }

  // What the reader has unfolded stays so, and a link that has the keyboard keeps it.
  function replace(element, html) {
    const unfolded = [...element.querySelectorAll("details")].map((each) => each.open);
    const active = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const sideways = [...element.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    element.innerHTML = html;
    element.querySelectorAll("details").forEach((each, at) => (each.open = unfolded[at] ?? each.open));
    element.querySelectorAll(".scroll").forEach((each, at) => (each.scrollLeft = sideways[at] ?? 0));
    if (active) [...element.querySelectorAll("a")].find((each) => each.getAttribute("href") === active)?.focus({ preventScroll: true });
  }

  function take(answer) {
    const selecting = String(getSelection()) !== "";
    for (const [id, html] of Object.entries(answer.parts)) {
      const element = document.getElementById(id);
      if (!element || shown.get(id) === html) continue;
      if (normal(html) === element.innerHTML) {
        shown.set(id, html);
        continue;
      }
      if (selecting && element.contains(getSelection().anchorNode)) continue; // not from under the reader's hand
      shown.set(id, html);
      replace(element, html);
    }
    if (answer.version !== version) {
      version = answer.version;
      table?.grid?.refresh();
    }
    if (answer.grid && told.grid && answer.grid !== told.grid) {
      if (!table?.grid?.source?.of) location.reload();
      else say("There are new columns: load the page again to see them.", "info");
    } else say("");
  }

  async function look() {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    let wait = 1000 * told.every;
    try {
      const response = await fetch(told.url, { cache: "no-store", credentials: "same-origin" });
      const answer = await response.json().catch(() => null);
      failures = 0;
      if (response.ok && answer) {
        take(answer);
        if (answer.working) wait = SOON;
        else if (!answer.alive) wait = SLOWER;
      } else {
        say(answer?.error ?? `The server answered with status ${response.status}.`, "bad");
        wait = SLOWER;
      }
    } catch {
      failures += 1;
      say("The server does not answer; it is asked again. What is shown may be old.");
      wait = Math.min(PATIENCE, wait * 2 ** Math.min(failures, 5));
    } finally {
      asking = false;
      timer = setTimeout(look, wait);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
  });
  table?.addEventListener("grid:open", (event) => {
    const link = document.createElement("a");
    link.href = `${told.study}/trials/${event.detail.key}`;
    link.textContent = `Page of trial ${event.detail.key}`;
    event.detail.place.append(link);
  });
  timer = setTimeout(look, 400);
})();
