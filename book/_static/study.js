// Draws the charts of a page, each when the reader comes near it, at a width the page can hold.
"use strict";
(() => {
  const folder = new URL(".", document.currentScript.src);
  const VIEWS = ["layer", "concat", "hconcat", "vconcat"];
  let library = null;

  function loadVega() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("vega.js", folder);
      script.onload = () => resolve(window.vegaEmbed);
      script.onerror = () => reject(new Error("the chart library _static/vega.js is missing"));
      document.head.append(script);
    });
    return library;
  }

  function scaled(size, ratio) {
    if (typeof size === "number") return Math.floor(size * ratio);
    return size?.step ? { ...size, step: size.step * ratio } : size;
  }

  function marks(view) {
    const own = view.mark ? [view.mark.type ?? view.mark] : [];
    return own.concat(...(view.layer ?? []).map(marks));
  }

  // Pictures and grids of cells would be distorted if they lost width alone.
  function keepsShape(view) {
    const drawn = marks(view);
    return drawn.length > 0 && drawn.every((mark) => ["image", "rect", "square", "text"].includes(mark));
  }

  // A copy of the specification whose views are `ratio` times as wide; text stays as it is, and so does the height
  // unless the view consists of pictures or cells.
  function narrowed(view, ratio, inherited = false) {
    const copy = { ...view };
    const shaped = inherited || keepsShape(view);
    if ("width" in copy) copy.width = scaled(copy.width, ratio);
    if ("height" in copy && shaped) copy.height = scaled(copy.height, ratio);
    if (copy.mark?.type === "image") {
      const { width, height } = copy.mark;
      copy.mark = { ...copy.mark, width: scaled(width, ratio), height: scaled(height, ratio) };
    }
    for (const key of VIEWS) if (copy[key]) copy[key] = copy[key].map((part) => narrowed(part, ratio, shaped));
    if (copy.spec) copy.spec = narrowed(copy.spec, ratio, shaped);
    const widths = copy.config?.view;
    if (widths) {
      const view = { ...widths };
      for (const key of ["continuousWidth", "discreteWidth", "step"]) if (key in view) view[key] = scaled(view[key], ratio);
      copy.config = { ...copy.config, view };
    }
    return copy;
  }

  function wrapped(title, letters) {
    if (typeof title === "string") {
      const pattern = new RegExp(`(.{1,${letters}})(?:\\s+|$)`, "g");
      return title.length > letters ? title.match(pattern).map((line) => line.trim()) : title;
    }
    return typeof title?.text === "string" ? { ...title, text: wrapped(title.text, letters) } : title;
  }

  // A single row of small charts becomes a single column of them.
  function refolded(encoding) {
    const { column, ...rest } = encoding;
    if (column && !rest.row && !rest.facet) return { ...rest, facet: { ...column, columns: 1 } };
    return rest.facet?.columns ? { ...encoding, facet: { ...rest.facet, columns: 1 } } : encoding;
  }

  // The same views one below the other, legends underneath: for a screen too narrow to hold them side by side.
  function stacked(view, letters) {
    const { hconcat, ...copy } = view;
    if (hconcat) copy.vconcat = hconcat;
    for (const key of VIEWS) if (copy[key]) copy[key] = copy[key].map((part) => stacked(part, letters));
    if (copy.spec) copy.spec = stacked(copy.spec, letters);
    if (copy.columns) copy.columns = 1;
    if (copy.title) copy.title = wrapped(copy.title, letters);
    if (copy.encoding) copy.encoding = refolded(copy.encoding);
    if (copy.config) copy.config = { ...copy.config, legend: { ...copy.config.legend, orient: "bottom", columns: 3 } };
    return copy;
  }

  async function embed(target, spec) {
    const embedVega = await loadVega();
    const options = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: "light" } };
    const result = await embedVega(target, spec, options);
    return { result, width: target.querySelector("svg").getBoundingClientRect().width };
  }

  async function draw(figure) {
    const card = figure.querySelector(".study-chart");
    const style = getComputedStyle(card);
    const room = card.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const target = document.createElement("div");
    target.style.visibility = "hidden";
    target.style.position = "absolute";
    card.append(target);
    const original = JSON.parse(figure.querySelector(".study-spec").textContent);
    let spec = original;
    let { result, width } = await embed(target, spec);
    if (width > room * 1.5) {
      spec = stacked(original, Math.floor(room / 8));
      result.finalize();
      ({ result, width } = await embed(target, spec));
    }
    // Axes and legends do not shrink with the views: two measurements tell how much does, and so the ratio that fits.
    let [ratio, before] = [1, null];
    for (let step = 0; width > room && step < 6; step += 1) {
      const slope = before && before.width > width ? (before.width - width) / (before.ratio - ratio) : 2 * width;
      before = { ratio, width };
      ratio = Math.max(0.1, ratio - (width - room + 2) / slope);
      result.finalize();
      ({ result, width } = await embed(target, narrowed(spec, ratio)));
    }
    figure.studyView?.finalize();
    figure.studyView = result;
    figure.studyRoom = room;
    card.classList.toggle("wide", width > room);
    target.removeAttribute("style");
    card.replaceChildren(target);
    figure.dataset.drawn = "true";
  }

  function redrawWhenResized(figures) {
    let pending = 0;
    addEventListener("resize", () => {
      clearTimeout(pending);
      pending = setTimeout(() => {
        for (const figure of figures) {
          const card = figure.querySelector(".study-chart");
          if (figure.dataset.drawn && Math.abs(card.clientWidth - 24 - figure.studyRoom) > 8) draw(figure);
        }
      }, 200);
    });
  }

  function start() {
    const figures = [...document.querySelectorAll(".study-figure")];
    const observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        draw(target).catch((error) => console.error(`figure ${target.id}: ${error.message}`));
      }
    }, { rootMargin: "400px" });
    figures.forEach((figure) => observer.observe(figure));
    redrawWhenResized(figures);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
