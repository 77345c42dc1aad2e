"use strict";
// The parts of the page that answer: theme, tips, the map of the network, and its panel. Texts enter the page as
// text nodes and attributes only.
(() => {
  const { svg, html, plain, show: written, tell: tip, hush } = geomcheck;
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const show = (figure, value, difference) => written({ ...figure, points: difference }, value);

  // --- theme
  byId("theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  });

  // --- tips, on hover and on focus
  function tell(event) {
    const target = event.target.closest ? event.target.closest("[data-tip], .target") : null;
    if (target && target.matches(".target")) return; // of a chart, which tells by itself
    if (!target || !target.dataset.tip) { hush(); return; }
    const box = target.getBoundingClientRect();
    tip([target.dataset.tip], ...(event.type === "focusin" ? [box.right - 6, box.bottom - 12] : [event.clientX, event.clientY]));
  }
  document.addEventListener("pointermove", tell);
  document.addEventListener("focusin", tell);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });
  document.addEventListener("scroll", hush, { passive: true, capture: true });

  // --- definitions open when they are asked for, and everything opens on paper
  function reveal() {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", reveal);
  reveal();
  let opened = [];
  addEventListener("beforeprint", () => { opened = [...document.querySelectorAll("details:not([open])")]; for (const one of opened) one.open = true; });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });

  // --- which runs are shown
  const picks = [...document.querySelectorAll(".pick")];
  function pick() {
    const hidden = new Set(picks.filter((own) => !own.checked).map((own) => Number(own.value)));
    for (const one of document.querySelectorAll("[data-run]")) one.hidden = hidden.has(Number(one.dataset.run));
    geomcheck.hideRuns(hidden);
  }
  for (const own of picks) {
    own.hidden = false;
    own.addEventListener("change", pick);
  }
  if (picks.length) byId("pick-hint").hidden = false;

  // --- the map
  if (!byId("map")) return;
  const data = JSON.parse(byId("data").textContent);
  const runs = data.runs.filter((run) => run.figures.length);
  for (const run of runs) run.figures = run.figures.map((figure) => ({ ...data.figures[figure.key], ...figure }));
  const [chooseRun, chooseFigure, chooseStep] = ["choose-run", "choose-figure", "choose-step"].map(byId);
  const state = { view: 0, figure: 0, step: 0, cell: null };
  const views = runs.map((run) => ({ name: run.name, run, other: null }));
  const shared = (a, b) => a.figures.some((f) => b.figures.some((g) => g.key === f.key));
  for (let i = 1; i < runs.length; i++) if (shared(runs[i], runs[0])) views.push({ name: `${runs[i].name} minus ${runs[0].name}`, run: runs[i], other: runs[0] });

  const view = () => views[state.view];
  const figures = () => {
    const { run, other } = view();
    return other ? run.figures.filter((f) => other.figures.some((g) => g.key === f.key)) : run.figures;
  };
  const label = (run, cell) => {
    const [layer, module] = run.cells[cell].at;
    const place = run.layers[layer];
    return `${/^\d/.test(place) ? "layer " : ""}${place} · ${run.modules[module]}`;
  };
  const nearest = (run, progress) => run.progress.reduce((best, p, i) => (Math.abs(p - progress) < Math.abs(run.progress[best] - progress) ? i : best), 0);

  // One figure per cell at a kept checkpoint: the run's own, or its difference to the other run.
  function values(figure, step) {
    const { run, other } = view();
    if (!other) return figure.values[step];
    const theirs = other.figures.find((g) => g.key === figure.key).values[nearest(other, run.progress[step])];
    const at = new Map(other.cells.map((cell, i) => [other.layers[cell.at[0]] + "\n" + other.modules[cell.at[1]], i]));
    return figure.values[step].map((value, i) => {
      const [layer, module] = run.cells[i].at;
      const match = at.get(run.layers[layer] + "\n" + run.modules[module]);
      const theirValue = match === undefined ? null : theirs[match];
      return value === null || theirValue === null ? null : value - theirValue;
    });
  }

  // Classes of colour over all kept checkpoints, so that checkpoints can be compared.
  function classes(figure) {
    const known = view().run.steps.flatMap((_, step) => values(figure, step)).filter((v) => v !== null);
    if (view().other) {
      const reach = known.reduce((most, v) => Math.max(most, Math.abs(v)), 0) || 1;
      return { low: -reach, high: reach, of: (v) => "d" + Math.min(8, Math.max(0, Math.floor(((v + reach) / (2 * reach)) * 9))) };
    }
    const low = known.reduce((a, b) => Math.min(a, b), Infinity);
    const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    const position = figure.log ? Math.log : (v) => v;
    const span = position(high) - position(low) || 1;
    return { low, high, of: (v) => "q" + Math.min(8, Math.floor(((position(v) - position(low)) / span) * 9)) };
  }

  // How many weights of a cell equal W0 at the chosen checkpoint.
  const frozen = (cell) => view().run.cells[cell].frozen?.[state.step] || 0;

  function describe(figure, cell, value) {
    const { run, other } = view();
    const { count, name } = run.cells[cell];
    const of = name !== null ? run.names[name] : `${figure.fold} of ${count.toLocaleString("en")} weights`;
    const still = frozen(cell);
    return `${label(run, cell)}\n${show(figure, value, other)}\n${of}${still ? `\nfrozen: ${count === 1 ? "it" : `${still.toLocaleString("en")} of them`} never changed up to here` : ""}`;
  }

  function drawMap() {
    const { run } = view();
    const figure = figures()[state.figure];
    const colour = classes(figure);
    const shown = values(figure, state.step);
    const known = run.cells.map((_, i) => run.steps.some((_, step) => values(figure, step)[i] !== null) || Boolean(run.cells[i].frozen));
    const used = (side) => [...new Set(run.cells.filter((_, i) => known[i]).map((cell) => cell.at[side]))].sort((a, b) => a - b);
    const [rows, columns] = [used(0), used(1)];
    const modules = columns.map((i) => run.modules[i]);
    const layers = rows.map((i) => run.layers[i]);
    const available = Math.max(260, byId("map").clientWidth);
    const left = Math.min(170, 14 + 7 * Math.max(...layers.map((text) => text.length)));
    const tallest = Math.max(...modules.map((text) => text.length));
    const roomy = (available - left - 8) / modules.length;
    const slanted = tallest * 6.6 > Math.min(76, roomy);
    const overhang = slanted ? Math.ceil(4.9 * modules[modules.length - 1].length) : 0;
    const width = Math.max(24, Math.min(76, (available - left - 8 - overhang) / modules.length));
    const height = Math.max(11, Math.min(30, 480 / layers.length));
    const top = slanted ? 14 + tallest * 4.9 : 22;
    const total = [left + width * modules.length + 4 + overhang, top + height * layers.length + 4];
    const drawing = svg("svg", { width: total[0], height: total[1], viewBox: `0 0 ${total[0]} ${total[1]}`, role: "group", "aria-label": `${figure.title} by layer and module` });
    modules.forEach((module, i) => {
      const [x, y] = [left + width * (i + 0.5), top - 7];
      drawing.append(svg("text", { class: slanted ? "tick" : "tick middle", x, y, ...(slanted ? { transform: `rotate(-45 ${x} ${y})` } : {}) }, module));
    });
    const every = Math.max(1, Math.ceil(14 / height));
    layers.forEach((layer, i) => {
      if (i % every === 0 || !/^\d/.test(layer)) drawing.append(svg("text", { class: "tick end", x: left - 6, y: top + height * (i + 0.5) + 4 }, layer));
    });
    const first = known.indexOf(true);
    run.cells.forEach((cell, i) => {
      if (!known[i]) return;
      const value = shown[i];
      const said = describe(figure, i, value);
      const [x, y] = [left + width * columns.indexOf(cell.at[1]), top + height * rows.indexOf(cell.at[0])];
      drawing.append(svg("rect", {
        class: `cell ${value === null ? "empty" : colour.of(value)}`, x, y, width, height,
        tabindex: i === (state.cell === null ? first : state.cell) ? 0 : -1, role: "button", "aria-label": said.replace(/\n/g, ", "), "data-tip": said, "data-cell": i,
      }));
      const still = frozen(i);
      if (still) drawing.append(svg("path", { class: still < cell.count ? "still partly" : "still", d: cross(x, y, width, height) }));
    });
    drawing.append(svg("rect", { class: "cursor", width, height }));
    byId("map").replaceChildren(drawing);
    const chosen = state.cell !== null && byId("map").querySelector(`[data-cell="${state.cell}"]`);
    if (chosen) mark(chosen);
    drawScale(figure, colour);
    byId("map-shows").textContent = `${figure.shows} One cell is one kind of matrix in one layer; ${view().other ? "blue is more than in the other run, orange less" : "the further right on the scale, the more"}.`;
    byId("shown-step").textContent = `step ${run.steps[state.step].toLocaleString("en")}`;
  }

  const cross = (x, y, width, height) => `M${x + 4} ${y + 3}L${x + width - 4} ${y + height - 3}M${x + 4} ${y + height - 3}L${x + width - 4} ${y + 3}`;

  // A frame above all cells: neighbours would paint over the outline of a cell.
  function mark(cell) {
    for (const side of ["x", "y"]) byId("map").querySelector(".cursor").setAttribute(side, cell.getAttribute(side));
  }

  function drawScale(figure, colour) {
    const bar = svg("svg", { width: 232, height: 34, viewBox: "0 0 232 34", role: "img", "aria-label": `colours from ${show(figure, colour.low, view().other)} to ${show(figure, colour.high, view().other)}` });
    const kind = view().other ? "d" : "q";
    for (let i = 0; i < 9; i++) bar.append(svg("rect", { class: kind + i, x: 4 + i * 24, y: 2, width: 24, height: 11 }));
    const log = figure.log && !view().other;
    const middle = log ? Math.sqrt(colour.low * colour.high) : (colour.low + colour.high) / 2;
    for (const [value, x, side] of [[colour.low, 4, ""], [middle, 112, " middle"], [colour.high, 220, " end"]]) bar.append(svg("text", { class: `tick${side}`, x, y: 27 }, show(figure, value, view().other)));
    const legend = html("p", undefined, "hint");
    legend.append(`${figure.title}${view().other ? ", difference" : ""}${log ? ", logarithmic" : ""}. `);
    const { run } = view();
    const still = run.cells.some((cell) => cell.frozen);
    for (const [there, look, words] of [[still, "still", "crossed: frozen, never changed up to here. "], [run.cells.some((cell) => cell.frozen && cell.count > 1), "still partly", "dashed: some of its weights are. "], [still, "", "blank: no figure."]]) {
      if (!there) continue;
      const swatch = svg("svg", { class: "swatch", viewBox: "0 0 22 12", "aria-hidden": true });
      swatch.append(svg("rect", { class: "empty", x: 0.5, y: 0.5, width: 21, height: 11 }), ...(look ? [svg("path", { class: look, d: cross(0, 0, 22, 12) })] : []));
      legend.append(swatch, ` ${words}`);
    }
    byId("scale").replaceChildren(bar, legend);
  }

  // --- the panel of one cell
  function drawPanel() {
    const panel = byId("panel");
    if (state.cell === null) return;
    const { run, other } = view();
    const { count, name } = run.cells[state.cell];
    const figure = figures()[state.figure];
    const series = run.steps.map((step, i) => [step, values(figure, i)[state.cell]]).filter(([, value]) => value !== null);
    const parts = [html("h3", label(run, state.cell))];
    const what = html("p", name !== null ? "" : `${count.toLocaleString("en")} weights; each figure is of all of them together`, "dim");
    if (name !== null) what.append(html("code", run.names[name]));
    parts.push(what, html("h4", figure.title + (other ? " (difference)" : "")));
    parts.push(series.length ? curve(series, figure, Boolean(other)) : html("p", "no figure", "dim"));
    const extremes = figure.extremes[state.cell];
    if (extremes && !other) parts.push(...extreme("Lowest", run.names[extremes[0]], show(figure, extremes[1])), ...extreme("Highest", run.names[extremes[2]], show(figure, extremes[3])));
    const spectrum = run.spectrum.map((values) => values[state.cell]).filter((value) => value !== null);
    if (spectrum.length) parts.push(html("h4", "Singular spectrum of the update, last checkpoint"), bars(spectrum), html("p", "How strong each direction of the update is. One tall bar: a single direction does the work. Even bars: a diffuse change.", "hint"));
    const angles = Object.entries(run.angles).filter(([, stats]) => stats.length === 3 && stats[0][state.cell] !== null);
    if (angles.length) parts.push(html("h4", "Rotation of the main directions, last checkpoint"), angleTable(angles));
    panel.replaceChildren(...parts);
    geomcheck.start(panel);
  }

  function extreme(word, name, value) {
    const line = html("p", `${word}: ${value} `, "hint");
    line.append(html("code", name));
    return [line];
  }

  function angleTable(angles) {
    const table = html("table");
    const head = table.insertRow();
    for (const text of ["", "median", "95% below", "largest"]) head.append(html("th", text));
    for (const [side, stats] of angles) {
      const row = table.insertRow();
      row.append(html("td", side === "left" ? "outputs (left)" : "inputs (right)"));
      for (const values of stats) row.append(html("td", plain(values[state.cell]) + "°", "figure"));
    }
    return table;
  }

  // A chart like those that come with the page, whose script places what is in it.
  function curve(series, figure, difference) {
    const [width, height] = [394, 160];
    const steps = series.map(([step]) => step);
    const [from, to] = [steps[0], steps[steps.length - 1]];
    const middle = from === to ? 1 : 0;
    const data = {
      x: { low: from - middle, high: to + middle, name: "training step", at: "step" },
      y: { log: figure.log && !difference, percent: figure.percent, degrees: figure.degrees, points: difference },
      series: [{ kind: "line", name: "", points: series }],
    };
    const drawing = svg("svg", { class: "chart", viewBox: `-10 0 ${width} ${height}`, "aria-label": `${figure.title}, ${label(view().run, state.cell)}` });
    const group = svg("g", { class: "series", "data-i": 0 });
    group.append(svg("polyline", { class: "line own" }), ...series.map(() => svg("circle", { class: "dot own", r: 3 })));
    drawing.append(svg("metadata", {}, JSON.stringify(data)), svg("g", { class: "axes" }), group);
    const plot = html("div", undefined, "plot");
    plot.append(drawing);
    return plot;
  }

  function bars(spectrum) {
    const [width, height] = [400, 120];
    const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "singular spectrum" });
    const most = Math.max(...spectrum) || 1;
    const step = (width - 60) / 16;
    spectrum.forEach((value, i) => {
      const tall = Math.max(1, (value / most) * (height - 40));
      drawing.append(svg("rect", { class: "bar", x: 40 + i * step, y: height - 20 - tall, width: step - 3, height: tall, "data-tip": `direction ${i + 1}: ${plain(100 * value)}% of the update's size` }));
      if (i === 0 || (i + 1) % 4 === 0) drawing.append(svg("text", { class: "tick middle", x: 40 + (i + 0.42) * step, y: height - 5 }, i + 1));
    });
    drawing.append(svg("line", { class: "axis", x1: 38, x2: width - 20, y1: height - 20, y2: height - 20 }));
    drawing.append(svg("text", { class: "tick end", x: 34, y: 24 }, plain(100 * most) + "%"));
    return drawing;
  }

  // --- choosing
  function fill(select, texts, chosen) {
    select.replaceChildren(...texts.map((text, i) => { const option = html("option", text); option.value = i; return option; }));
    select.value = chosen;
  }
  function refresh() { drawMap(); drawPanel(); }
  function choose(cell, focus) {
    state.cell = cell;
    refresh();
    if (focus) byId("map").querySelector(`[data-cell="${cell}"]`).focus({ preventScroll: false });
  }
  function newView() {
    const steps = view().run.steps.length;
    const start = figures().findIndex((figure) => figure.metric === data.start);
    fill(chooseFigure, figures().map((figure) => figure.title), (state.figure = Math.max(0, start)));
    chooseStep.max = steps - 1;
    chooseStep.value = state.step = withFigures();
    state.cell = null;
    byId("panel").replaceChildren(html("p", "Choose a cell of the map to look closer.", "dim"));
    refresh();
  }
  // The last checkpoint at which the chosen figure has values: an alignment with the last one has none there.
  function withFigures() {
    for (let step = view().run.steps.length - 1; step > 0; step--) if (values(figures()[state.figure], step).some((v) => v !== null)) return step;
    return 0;
  }
  byId("choices").addEventListener("submit", (event) => event.preventDefault());
  chooseFigure.addEventListener("change", () => { state.figure = Number(chooseFigure.value); chooseStep.value = state.step = withFigures(); refresh(); });
  chooseStep.addEventListener("input", () => { state.step = Number(chooseStep.value); refresh(); });
  if (chooseRun) {
    const offer = (hidden) => {
      const open = views.map((one, i) => [i, [one.run, one.other].some((run) => run && hidden.has(run.run))]);
      for (const [i, closed] of open) chooseRun.options[i].hidden = chooseRun.options[i].disabled = closed;
      const kept = open.find(([, closed]) => !closed);
      if (kept && open[state.view][1]) { chooseRun.value = state.view = kept[0]; newView(); }
    };
    fill(chooseRun, views.map((one) => one.name), 0);
    for (const own of picks) own.addEventListener("change", () => offer(new Set(picks.filter((one) => !one.checked).map((one) => Number(one.value)))));
    chooseRun.addEventListener("change", () => { state.view = Number(chooseRun.value); newView(); });
  }
  byId("map").addEventListener("focusin", (event) => { if (event.target.dataset.cell !== undefined) mark(event.target); });
  byId("map").addEventListener("click", (event) => {
    if (event.target.dataset.cell !== undefined) choose(Number(event.target.dataset.cell), true);
  });
  byId("map").addEventListener("keydown", (event) => {
    const here = event.target.dataset.cell;
    if (here === undefined) return;
    const { cells } = view().run;
    const [row, column] = cells[here].at;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(Number(here), true); return; }
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    const ahead = cells.map((cell, i) => [i, (cell.at[0] - row) * down + (cell.at[1] - column) * right, down ? cell.at[1] === column : cell.at[0] === row])
      .filter(([i, distance, aligned]) => aligned && distance > 0 && byId("map").querySelector(`[data-cell="${i}"]`)).sort((a, b) => a[1] - b[1]);
    if (!ahead.length) return;
    for (const cell of byId("map").querySelectorAll(".cell")) cell.setAttribute("tabindex", -1);
    const next = byId("map").querySelector(`[data-cell="${ahead[0][0]}"]`);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
  let wide = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; drawMap(); } });
  newView();
})();
