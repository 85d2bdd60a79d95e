// Draws figures when they come into sight, and all of them for print; colours follow the page's scheme.
(() => {
  "use strict";
  const places = [...document.querySelectorAll("[data-figure]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const PRINT_WIDTH = 690;
  const drawn = new Map();
  let printing = false;

  const LIGHT = {
    ink: "#1f2530", soft: "#5a6472", muted: "#9aa3af", grid: "#e3e7ec", paper: "#ffffff", clear: "rgba(0,0,0,0)",
    veil: "rgba(255,255,255,0.78)", band: "rgba(70,90,120,0.07)", accent: "#c2410c", bad: "#c62828", dot: "rgba(37,99,168,0.42)",
    c1: "#2563a8", c2: "#d9822b", c3: "#2a8f6f", c4: "#8a5bb5", c5: "#b8476b", c6: "#4f9fc9", c7: "#8c8a2c", c8: "#6b7683",
    b1: "#4a5260", b2: "#8a6d3b", b3: "#7a8794",
    p1: "#b5400f", p2: "#d9822b", p3: "rgba(150,140,80,0.55)", p4: "rgba(110,140,150,0.45)", p5: "rgba(110,140,180,0.32)", p6: "rgba(110,140,190,0.24)",
  };
  const DARK = {
    ink: "#e6e9ee", soft: "#a9b2be", muted: "#76808d", grid: "#39414d", paper: "#171b21", clear: "rgba(0,0,0,0)",
    veil: "rgba(23,27,33,0.78)", band: "rgba(160,180,210,0.09)", accent: "#ff9f5a", bad: "#ff7b72", dot: "rgba(110,176,240,0.5)",
    c1: "#6eb0f0", c2: "#f0a858", c3: "#5fc7a3", c4: "#bf9be6", c5: "#ea87a6", c6: "#8fd0f0", c7: "#c9c76a", c8: "#9aa5b3",
    b1: "#c3cad4", b2: "#d0b27a", b3: "#8f9aa8",
    p1: "#ffab66", p2: "#e2904a", p3: "rgba(190,175,110,0.55)", p4: "rgba(150,180,190,0.42)", p5: "rgba(140,175,215,0.3)", p6: "rgba(140,175,225,0.22)",
  };
  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset", showSendToCloud: false, plotlyServerURL: "" };

  const coloured = (value, colours) => {
    if (typeof value === "string") return value[0] === "@" && value.slice(1) in colours ? colours[value.slice(1)] : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((each) => coloured(each, colours));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, colours)]));
    return value;
  };

  const figureOf = (place) => {
    const figure = coloured(JSON.parse(document.getElementById(place.dataset.figure).textContent), !printing && dark.matches ? DARK : LIGHT);
    // A finger that scrolls the page must not draw a frame to zoom into.
    figure.layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
    figure.layout.height = place.clientHeight || undefined;
    const log = document.querySelector(`[data-log="${place.id}"]`);
    if (log && log.checked) figure.layout.yaxis = { ...figure.layout.yaxis, type: "log" };
    if (printing) figure.layout.width = Math.min(PRINT_WIDTH, Number(place.dataset.print) || PRINT_WIDTH);
    return figure;
  };

  const draw = (place) => {
    if (!window.Plotly) window.loadPlotly();
    const figure = figureOf(place);
    const done = drawn.has(place) ? Plotly.react(place, figure.data, figure.layout, CONFIG) : Plotly.newPlot(place, figure.data, figure.layout, CONFIG);
    drawn.set(place, true);
    place.dataset.drawn = "";
    return done;
  };

  if (!("IntersectionObserver" in window)) places.forEach(draw);
  else {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        if (!drawn.has(entry.target)) draw(entry.target);
      }
    }, { rootMargin: "500px 0px" });
    places.forEach((place) => seen.observe(place));
  }

  document.addEventListener("change", (event) => {
    const place = event.target.dataset && event.target.dataset.log && document.getElementById(event.target.dataset.log);
    if (place) draw(place);
  });
  dark.addEventListener("change", () => [...drawn.keys()].forEach(draw));
  addEventListener("beforeprint", () => { printing = true; places.forEach(draw); });
  addEventListener("afterprint", () => { printing = false; places.forEach((place) => { draw(place); }); });
})();
