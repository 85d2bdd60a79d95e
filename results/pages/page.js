// What every page does: grids come to life, commands can be copied, everything is unfolded in print.

document.querySelectorAll("[data-grid]").forEach((element) => {
  element.grid = new Grid(element);
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  button.dataset.label ??= button.textContent;
  try {
    await copyText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = button.dataset.label), 1600);
});

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((element) => (element.open = true));
});
addEventListener("afterprint", () => folded.forEach((element) => (element.open = false)));
