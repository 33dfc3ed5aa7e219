// The explorer of memorized examples: study.explorer has written what it shows.
"use strict";
(() => {
  const SHOWN = 36;
  const loaded = new Map(), waiting = new Map();

  // The scripts with the numbers call this; a page from the file system may load scripts, but read no files.
  window.studyExplorer = (content) => {
    loaded.set(content.name, content);
    waiting.get(content.name)?.(content);
  };

  function load(folder, name) {
    if (loaded.has(name)) return Promise.resolve(loaded.get(name));
    return new Promise((resolve, reject) => {
      waiting.set(name, resolve);
      const script = document.createElement("script");
      script.src = `${folder}/${name}.mjs`;
      script.onerror = () => reject(new Error(`${name}.mjs is missing`));
      document.head.append(script);
    });
  }

  function made(tag, className, text = "") {
    const node = document.createElement(tag);
    node.className = className;
    node.textContent = text;
    return node;
  }

  // A picture cut from the sheet; where there is none, the place of the example with its number.
  function picture(tour, sheet, place, number, side) {
    const node = made("span", "picture", tour.pixels ? "" : `${sheet} ${number}`);
    node.style.width = node.style.height = `${side}px`;
    if (tour.pixels) {
      const zoom = side / tour.pixels[1];
      node.style.backgroundImage = `url("${tour.folder}/${tour.name}-${sheet}.webp")`;
      node.style.backgroundSize = `${tour.across * tour.pixels[1] * zoom}px auto`;
      node.style.backgroundPosition = `${-(place % tour.across) * side}px ${-Math.floor(place / tour.across) * side}px`;
    }
    return node;
  }

  function nearest(tour, mem, label) {
    const places = tour.mem.map((_, place) => place).filter((place) => label === "" || tour.label[place] === Number(label));
    places.sort((a, b) => Math.abs(tour.mem[a] - mem) - Math.abs(tour.mem[b] - mem) || a - b);
    return places.slice(0, SHOWN).sort((a, b) => tour.mem[a] - tour.mem[b] || a - b);
  }

  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  function influenced(tour, place) {
    if (!tour.influences[place].length) return [made("p", "", tour.no_influences)];
    const list = made("ul", "tests");
    for (const [test, infl, error] of tour.influences[place]) {
      const item = made("li", "");
      item.append(picture(tour, "test", test, tour.tests[test], 56), made("span", "", `${infl.toFixed(2)} ± ${error.toFixed(2)}`));
      item.title = `test example ${tour.tests[test]}`;
      list.append(item);
    }
    return [made("p", "", "Test examples of its class that it influences most, with the influence and its standard error:"), list];
  }

  function detail(tour, place) {
    const facts = made("dl", "");
    const pairs = [
      ["training example", tour.train[place]], ["class", tour.classes[tour.label[place]]],
      ["memorization", `${tour.mem[place].toFixed(3)} ± ${tour.std_error[place].toFixed(3)}`],
      [`right in ${tour.n_in[place]} models trained on it`, percent(tour.in_accuracy[place])],
      [`right in ${tour.n_out[place]} models trained without it`, percent(tour.out_accuracy[place])],
    ];
    for (const [term, value] of pairs) facts.append(made("dt", "", term), made("dd", "", value));
    const head = made("div", "head");
    head.append(picture(tour, "train", place, tour.train[place], 112), facts);
    return [head, ...influenced(tour, place)];
  }

  function start(root) {
    const field = (name) => root.querySelector(`[name=${name}]`);
    const [grid, told, panel] = [".grid", ".told", ".detail"].map((name) => root.querySelector(name));
    let tour = null;

    function select(button, place) {
      grid.querySelector("[aria-pressed=true]")?.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", "true");
      panel.replaceChildren(...detail(tour, place));
      panel.scrollIntoView({ block: "nearest" });
    }

    function cell(place) {
      const button = made("button", "");
      const name = tour.classes[tour.label[place]];
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-label", `training example ${tour.train[place]}, class ${name}, memorization ${tour.mem[place].toFixed(2)}`);
      button.append(picture(tour, "train", place, tour.train[place], 56), made("span", "", tour.mem[place].toFixed(2)));
      button.addEventListener("click", () => select(button, place));
      const item = made("li", "");
      item.append(button);
      return item;
    }

    function draw() {
      const mem = Number(field("mem").value), places = nearest(tour, mem, field("class").value);
      root.querySelector(".value").textContent = mem.toFixed(2);
      const far = places.length ? Math.max(...places.map((place) => Math.abs(tour.mem[place] - mem))) : 0;
      told.textContent = `The ${places.length} examples nearest to ${mem.toFixed(2)}; the farthest lies ${far.toFixed(2)} from it.`;
      grid.replaceChildren(...places.map(cell));
      panel.replaceChildren(made("p", "", "Choose an example to see its scores and the tests it influences."));
    }

    async function change() {
      const content = await load(root.dataset.folder, field("data").value);
      tour = { ...content, folder: root.dataset.folder };
      const all = made("option", "", "all");
      all.value = "";
      field("class").replaceChildren(all, ...tour.classes.map((name, label) => Object.assign(made("option", "", name), { value: label })));
      draw();
      root.dataset.ready = tour.name;
    }

    field("mem").addEventListener("input", draw);
    field("class").addEventListener("change", draw);
    const changed = () => change().catch((error) => { told.textContent = `The explorer cannot open: ${error.message}.`; });
    field("data").addEventListener("change", changed);
    changed();
  }

  const begin = () => document.querySelectorAll(".study-explorer").forEach(start);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
