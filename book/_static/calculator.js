// The cost of not fitting, redrawn as the reader drags; study.theory.calculator computes the same.
"use strict";
(() => {
  const BANDS = [[0, 1 / 3, "below 1/3"], [1 / 3, 2, "1/3 to 2"], [2, 10, "2 to 10"], [10, Infinity, "above 10"]];
  const HEAD = 50; // heavy points of the gap prior, or half of all if there are fewer

  // Frequencies with their multiplicities: uniform and gap priors have few different ones.
  function frequencies(kind, points, tail) {
    if (kind === "uniform") return [[1 / points, points]];
    if (kind === "gap") {
      const head = Math.min(HEAD, Math.floor(points / 2));
      return [[(1 - tail) / head, head], [tail / (points - head), points - head]];
    }
    let sum = 0;
    for (let i = points; i >= 1; i -= 1) sum += 1 / i;
    return Array.from({ length: points }, (_, i) => [1 / (i + 1) / sum, 1]);
  }

  // Probabilities of 0, 1, ... `most` occurrences of a point of frequency p among n draws.
  function counts(n, p, most) {
    const found = [Math.exp(n * Math.log1p(-p))];
    for (let k = 1; k <= most; k += 1) found.push(p < 1 ? found[k - 1] * ((n - k + 1) / k) * (p / (1 - p)) : 0);
    return found;
  }

  function loss({ prior, points, n, labels, tail, refused, epsilon }) {
    const guess = 1 - 1 / labels, lie = (labels - 1) / (Math.exp(epsilon) + labels - 1);
    const bands = BANDS.map(() => ({ weight: 0, error: 0, best: 0 }));
    const whole = { error: 0, optimum: 0, unfitted: 0 };
    for (const [p, many] of frequencies(prior, points, tail)) {
      const seen = counts(n, p, refused), few = seen.reduce((a, b) => a + b, 0);
      const error = few * guess + (1 - few) * lie, best = seen[0] * guess, mass = p * many;
      const band = bands[BANDS.findIndex(([low, high]) => n * p >= low && n * p < high)];
      band.weight += mass;
      band.error += mass * error;
      band.best += mass * best;
      whole.error += mass * error;
      whole.optimum += mass * best;
      whole.unfitted += many * seen.reduce((sum, probability, k) => sum + k * probability, 0) / n;
    }
    return { ...whole, bands };
  }
  window.studyLoss = loss;

  const percent = (share) => `${(100 * share).toFixed(Math.abs(share) < 0.001 && share !== 0 ? 3 : 1)} %`;

  function row(name, { weight, error, best }) {
    const cells = weight > 0 ? [percent(weight), percent(best / weight), percent(error / weight)] : ["none", "", ""];
    const line = document.createElement("tr"), head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    line.append(head, ...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    const bar = document.createElement("span"), last = document.createElement("td");
    bar.className = "bar";
    bar.style.width = `${weight > 0 ? 100 * Math.max(0, (error - best) / weight) : 0}%`;
    last.append(bar);
    line.append(last);
    return line;
  }

  function start(form) {
    const field = (name) => form.elements[name];
    field("points").value = Math.log10(Number(form.dataset.points));
    field("n").value = Math.log10(Number(form.dataset.n));

    function read() {
      const power = (name) => 10 ** Number(field(name).value), epsilon = Number(field("epsilon").value);
      return {
        prior: field("prior").value, points: Math.round(power("points")), n: Math.round(power("n")),
        labels: Number(field("labels").value), tail: power("tail"), refused: Number(field("refused").value),
        epsilon: epsilon >= 10 ? Infinity : epsilon,
      };
    }

    // Where a slider runs over powers of ten its own value would be told to those who listen.
    function tell(name, value) {
      form.querySelector(`[data-of=${name}]`).textContent = value;
      field(name).setAttribute("aria-valuetext", value);
    }

    function draw() {
      const chosen = read(), found = loss(chosen);
      for (const name of ["points", "n"]) tell(name, chosen[name].toLocaleString("en"));
      tell("tail", percent(chosen.tail));
      tell("refused", chosen.refused);
      tell("epsilon", Number.isFinite(chosen.epsilon) ? chosen.epsilon : "∞ (none)");
      form.querySelector(".tail").hidden = chosen.prior !== "gap";
      form.querySelector("[role=status]").textContent = `The best possible error is ${percent(found.optimum)}. This learner has `
        + `${percent(found.error)}: it loses ${percent(found.error - found.optimum)}, and leaves ${percent(found.unfitted)} of its sample unfitted.`;
      form.querySelector("tbody").replaceChildren(...found.bands.map((band, i) => row(BANDS[i][2], band)));
      form.dataset.ready = "true";
    }

    form.addEventListener("input", draw);
    form.addEventListener("submit", (event) => event.preventDefault());
    draw();
  }

  const begin = () => document.querySelectorAll("form.study-calculator").forEach(start);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
