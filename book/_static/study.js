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

  // Grids of cells would be distorted if they lost width alone.
  function keepsShape(view) {
    const drawn = marks(view);
    return drawn.length > 0 && drawn.every((mark) => ["rect", "square", "text"].includes(mark));
  }

  // A copy of the specification whose views are `ratio` times as wide; text stays as it is, and so does the height
  // unless the view consists of cells.
  function narrowed(view, ratio, inherited = false) {
    const copy = { ...view };
    const shaped = inherited || keepsShape(view);
    if ("width" in copy) copy.width = scaled(copy.width, ratio);
    if ("height" in copy && shaped) copy.height = scaled(copy.height, ratio);
    for (const key of VIEWS) if (copy[key]) copy[key] = copy[key].map((part) => narrowed(part, ratio, shaped));
    if (copy.spec) copy.spec = narrowed(copy.spec, ratio, shaped);
    const sizes = copy.config?.view;
    if (sizes) {
      const continuousWidth = scaled(sizes.continuousWidth, ratio);
      const discreteWidth = scaled(sizes.discreteWidth ?? { step: sizes.step }, ratio);
      copy.config = { ...copy.config, view: { ...sizes, continuousWidth, discreteWidth } };
    }
    return copy;
  }

  function wrapped(title, letters) {
    if (typeof title === "string") {
      const pattern = new RegExp(`(?:.{1,${letters}}|\\S+)(?:\\s+|$)`, "g");
      return title.length > letters ? title.match(pattern).map((line) => line.trim()) : title;
    }
    return typeof title?.text === "string" ? { ...title, text: wrapped(title.text, letters) } : title;
  }

  // Names of more than a few words, at the side of a chart, in two lines.
  const TWO_LINES = "length(datum.label) < 21 ? datum.label : split(replace(datum.label, regexp('^(.{1,20})\\\\s'), '$1\\n'), '\\n')";

  // The heads of narrow columns would run into one another.
  function inTwoLines(column) {
    return { ...column, header: { labelExpr: TWO_LINES, labelBaseline: "bottom", ...column.header } };
  }

  // Long axis titles and names in several lines, legends below, a single row of small charts as a single column.
  function compacted(encoding, letters, legends) {
    const { column, ...kept } = encoding;
    const copy = Object.fromEntries(Object.entries(kept).map(([channel, definition]) => {
      if (definition === null || typeof definition !== "object" || Array.isArray(definition)) return [channel, definition];
      const { title, axis, legend, columns, type } = definition;
      const changes = {};
      if (channel === "x" && title) changes.title = wrapped(title, letters);
      if (channel === "x" && axis?.title) changes.axis = { ...axis, title: wrapped(axis.title, letters) };
      if (channel === "y" && type === "nominal" && axis !== null) changes.axis = { labelExpr: TWO_LINES, ...axis };
      if (legend) changes.legend = { ...legend, ...legends, direction: "vertical" };
      if (channel === "facet" && columns) changes.columns = 1;
      return [channel, { ...definition, ...changes }];
    }));
    if (!column) return copy;
    if (!copy.row && !copy.facet) return { ...copy, facet: { ...column, columns: 1 } };
    return { ...copy, column: inTwoLines(column) };
  }

  // The same views one below the other, legends underneath: for a screen too narrow to hold them side by side.
  function stacked(view, letters, legends) {
    const { hconcat, ...copy } = view;
    if (hconcat) copy.vconcat = hconcat;
    for (const key of VIEWS) if (copy[key]) copy[key] = copy[key].map((part) => stacked(part, letters, legends));
    if (copy.spec) copy.spec = stacked(copy.spec, letters, legends);
    if (copy.columns) copy.columns = 1;
    if (copy.facet?.column) copy.facet = { ...copy.facet, column: inTwoLines(copy.facet.column) };
    if (copy.title) copy.title = wrapped(copy.title, letters);
    if (copy.encoding) copy.encoding = compacted(copy.encoding, letters - 10, legends);
    if (copy.config) {
      // A legend that ends where the plot ends may begin under the axis, which leaves long entries more room.
      const layout = { bottom: { direction: "vertical", anchor: legends.columns === 1 ? "end" : "start", margin: 6 } };
      copy.config = { ...copy.config, legend: { ...copy.config.legend, ...legends, layout } };
    }
    return copy;
  }

  async function embed(target, spec, renderer = "svg") {
    const embedVega = await loadVega();
    return embedVega(target, spec, { mode: "vega-lite", renderer, actions: false, tooltip: { theme: "light" } });
  }

  // How wide a chart would be. To draw thousands of marks takes seconds, to lay them out a thousandth of that.
  async function measured(target, spec) {
    const { view, finalize } = await embed(target, spec, "none");
    const { left = 0, right = 0 } = view.padding();
    const width = view._viewWidth + left + right;
    finalize();
    return width;
  }

  // Axes and legends do not shrink with the views: two measurements tell how much does, and so the ratio that fits.
  async function fitted(target, spec, room) {
    let [ratio, before, fitting, width] = [1, null, spec, await measured(target, spec)];
    for (let step = 0; width > room && step < 4; step += 1) {
      const slope = before && before.width > width ? (before.width - width) / (before.ratio - ratio) : 2 * width;
      before = { ratio, width };
      ratio = Math.max(0.1, ratio - (width - room + 2) / slope);
      fitting = narrowed(spec, ratio);
      width = await measured(target, fitting);
    }
    return { spec: fitting, width, ratio };
  }

  // On the page data sets name their columns once; the chart library wants the names in every row.
  function unpacked(spec) {
    const rows = ({ fields, rows }) => rows.map((row) => Object.fromEntries(row.map((value, place) => [fields[place], value])));
    const data = Object.entries(spec.datasets ?? {}).map(([name, held]) => [name, held.fields ? rows(held) : held]);
    return { ...spec, datasets: Object.fromEntries(data) };
  }

  function showsPictures(view) {
    const parts = VIEWS.flatMap((key) => view[key] ?? []).concat(view.spec ?? []);
    return marks(view).includes("image") || parts.some(showsPictures);
  }

  // Tries the views as they are, then stacked, then with one legend entry a line, until they are not squeezed; draws once.
  async function drawn(target, spec, room) {
    // A gallery is a picture as a whole, with its labels in their places: the style sheet makes it smaller.
    if (showsPictures(spec)) return { result: await embed(target, spec), width: room };
    let best = await fitted(target, spec, room);
    for (const [least, columns] of [[0.6, 3], [0.3, 1]]) {
      if (best.width <= room && best.ratio >= least) break;
      const legends = { orient: "bottom", columns, labelLimit: room - 40, titleLimit: room - 20 };
      best = await fitted(target, stacked(spec, Math.floor(room / 7.5), legends), room);
    }
    return { result: await embed(target, best.spec), width: best.width };
  }

  async function draw(figure) {
    const card = figure.querySelector(".study-chart");
    const style = getComputedStyle(card);
    const room = card.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    // Drawn outside the page and put in whole: the browser would ask the style sheets anew at each of thousands of marks.
    const target = document.createElement("div");
    const { result, width } = await drawn(target, unpacked(JSON.parse(figure.querySelector(".study-spec").textContent)), room);
    figure.studyView?.finalize();
    figure.studyView = result;
    figure.studyRoom = room;
    card.classList.toggle("wide", width > room);
    card.replaceChildren(target);
    figure.dataset.drawn = "true";
    letScroll();
  }

  // What is wider than its place scrolls, with the arrow keys too once the tab key has led there.
  function letScroll() {
    for (const node of document.querySelectorAll("main :is(pre, table, .math, mjx-container, .study-chart, .output)")) {
      const { overflowX, overflowY } = getComputedStyle(node);
      const sideways = /auto|scroll/.test(overflowX) && node.scrollWidth > node.clientWidth;
      const down = /auto|scroll/.test(overflowY) && node.scrollHeight > node.clientHeight;
      if (sideways || down) node.tabIndex = 0;
      else node.removeAttribute("tabindex");
    }
  }

  function redrawWhenResized(figures) {
    let pending = 0;
    addEventListener("resize", () => {
      clearTimeout(pending);
      pending = setTimeout(() => {
        for (const figure of figures) {
          const card = figure.querySelector(".study-chart");
          if (!figure.dataset.drawn || Math.abs(card.clientWidth - 24 - figure.studyRoom) <= 8) continue;
          delete figure.dataset.drawn;
          draw(figure);
        }
        letScroll();
      }, 200);
    });
  }

  function start() {
    const figures = [...document.querySelectorAll(".study-figure:has(.study-spec)")];
    const observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        draw(target).catch((error) => console.error(`figure ${target.id}: ${error.message}`));
      }
    }, { rootMargin: "400px" });
    figures.forEach((figure) => observer.observe(figure));
    redrawWhenResized(figures);
    letScroll();
    addEventListener("load", () => Promise.resolve(window.MathJax?.startup?.promise).then(letScroll));
    printInLight();
  }

  // Paper is white: what is light on dark on the screen would vanish on it.
  function printInLight() {
    const root = document.documentElement;
    let theme = root.dataset.theme;
    addEventListener("beforeprint", () => { theme = root.dataset.theme; root.dataset.theme = "light"; });
    addEventListener("afterprint", () => { root.dataset.theme = theme; });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
