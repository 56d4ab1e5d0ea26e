// Keyboard shortcuts, and a warning while the page cannot be refreshed. The console also works without this file.
"use strict";
(() => {
  const warn = (isStale) => {
    const box = document.getElementById("stale");
    if (box && box.hidden === isStale) box.hidden = !isStale;
  };
  document.addEventListener("htmx:sendError", () => warn(true));
  document.addEventListener("htmx:timeout", () => warn(true));
  document.addEventListener("htmx:responseError", () => warn(true));
  document.addEventListener("htmx:afterOnLoad", () => warn(false));
  // Keep the sections that a person has unfolded open when the page refreshes itself.
  let unfolded = [];
  document.addEventListener("htmx:beforeSwap", () => {
    unfolded = [...document.querySelectorAll("details[open][id]")].map((one) => one.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
  });
  // Do not refresh a page in a hidden tab.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });

  const pages = { n: "/console/", i: "/console/incidents", d: "/console/decisions", t: "/console/tokens",
    j: "/console/jobs", o: "/console/outbox", s: "/console/sources", a: "/console/audit" };
  let isGoing = false;
  const step = (by) => {
    const links = [...document.querySelectorAll("[data-row]")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at < 0 ? 0 : at + by, 0), links.length - 1)].focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (isGoing) {
      isGoing = false;
      if (pages[event.key]) location.assign(pages[event.key]);
      return;
    }
    if (event.key === "g") isGoing = true;
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") {
      const field = document.querySelector("[data-search]");
      if (field) { field.focus(); field.select(); event.preventDefault(); }
    }
  });
})();
