"use strict";
// Charts that answer: the figures at a checkpoint, names that hide and highlight, another scale, a range of checkpoints,
// files. A chart brings its figures as JSON in its <metadata>; what stands in it is moved, never drawn anew, so that it
// looks the same with and without this script. Texts enter the page as text nodes and attributes only.
const geomcheck = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const [LEFT, RIGHT, TOP, BOTTOM, LETTER, BAR] = [52, 368, 12, 36, 8, 14]; // of charts/chart.py

  function svg(tag, attributes = {}, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function html(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function button(text, does, className) {
    const element = html("button", text, className);
    element.type = "button";
    element.addEventListener("click", does);
    return element;
  }

  // --- numbers, written as the rest of the page writes them
  function plain(value, digits = 3) {
    if (value === 0) return "0";
    const [mantissa, exponent] = Math.abs(value).toExponential(digits - 1).split("e");
    const power = Number(exponent);
    const sign = value < 0 ? "−" : "";
    const trim = (text) => (text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);
    if (power >= -2 && power < 5) return sign + Number(`${mantissa}e${exponent}`).toLocaleString("en", { maximumSignificantDigits: digits });
    const up = String(power).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return sign + (trim(mantissa) === "1" ? "" : trim(mantissa) + "×") + "10" + up;
  }

  function show(form, value, digits = 3) {
    if (value === null || value === undefined) return "no figure";
    if (form.percent) return plain(100 * value, digits) + (form.points ? " points" : "%");
    return plain(value, digits) + (form.degrees ? "°" : "");
  }

  const between = (form, low, high) => {
    if (low === null || high === null) return low === null ? `below ${show(form, high)}` : `above ${show(form, low)}`;
    return low === high ? show(form, low) : `${show(form, low)} to ${show(form, high)}`;
  };

  // --- the tip
  const tip = document.getElementById("tip") || document.body.appendChild(html("div"));
  Object.assign(tip, { id: "tip", hidden: true });
  function tell(content, x, y) {
    tip.replaceChildren(...content);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 4)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 16) + "px";
  }
  const hush = () => { tip.hidden = true; };

  // --- axes, as charts/axis.py has them
  function spanning(values, { floor, ceiling }, log) {
    const known = log ? values.filter((v) => v > 0) : values;
    if (!known.length) return { low: 0, high: 1, log: false };
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (log) {
      const margin = Math.max((high / low) ** 0.08, 1.12);
      return { low: low / margin, high: high * margin, log };
    }
    const margin = 0.08 * (high - low) || 0.1 * Math.abs(high) || 1;
    low = floor === undefined ? low - margin : Math.max(low - margin, floor);
    high = ceiling === undefined ? high + margin : Math.min(high + margin, ceiling);
    return high > low ? { low, high, log } : { low: low - 0.5, high: high + 0.5, log };
  }

  function ticks({ low, high, log }, count) {
    if (log) {
      for (const multiples of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]]) {
        const found = [];
        for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d++)
          for (const m of multiples) if (m * 10 ** d >= low && m * 10 ** d <= high) found.push(Number((m * 10 ** d).toPrecision(12)));
        if (found.length >= 3) return found.filter((_, i) => i % Math.ceil(found.length / (count + 2)) === 0);
      }
      return [0.1, 0.5, 0.9].map((share) => low * (high / low) ** share);
    }
    const raw = (high - low) / count;
    const magnitude = 10 ** Math.floor(Math.log10(raw));
    const step = magnitude * [1, 2, 2.5, 5, 10].find((m) => m * magnitude >= raw);
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n <= Math.floor(high / step + 1e-9); n++) found.push(Number((n * step).toPrecision(12)));
    return found;
  }

  function place({ low, high, log, ends }, value) {
    const at = (v) => (log ? Math.log10(v) : v);
    const share = (at(Math.min(Math.max(value, low), high)) - at(low)) / (at(high) - at(low));
    return Math.round(10 * (ends[0] + share * (ends[1] - ends[0]))) / 10;
  }

  // --- files
  function save(name, blob) {
    const link = html("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // A cell of a table: a text that a spreadsheet would take for a formula is marked as a text.
  const cell = (value) => {
    if (typeof value === "number") return String(value);
    const text = String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];
  function inlined(element) {
    const look = getComputedStyle(element);
    if (element.matches(".cross, .target, .off") || look.display === "none") return null;
    const copy = element.cloneNode(false);
    if (element.tagName === "metadata") { copy.textContent = element.textContent; return copy; }
    for (const { name } of [...copy.attributes]) if (/^(class|data-|aria-|tabindex|role)/.test(name)) copy.removeAttribute(name);
    for (const name of LOOKS) copy.setAttribute(name, look.getPropertyValue(name));
    if (copy.tagName === "circle") copy.setAttribute("r", look.r.replace("px", "") || element.getAttribute("r"));
    for (const child of element.childNodes) {
      const own = child.nodeType === 1 ? inlined(child) : child.cloneNode();
      if (own) copy.append(own);
    }
    return copy;
  }

  const charts = [];
  const hiddenRuns = new Set();

  // --- one chart
  function enhance(plot) {
    const drawing = plot.querySelector("svg.chart");
    if (!drawing || plot.dataset.ready) return null;
    plot.dataset.ready = "yes";
    const data = JSON.parse(drawing.querySelector("metadata").textContent);
    const [edge, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
    const groups = [...drawing.querySelectorAll("g.series")];
    const axes = drawing.querySelector("g.axes");
    const names = [...plot.querySelectorAll(".names button")];
    const [left, right, top, bottom] = [LEFT, RIGHT, TOP, height - BOTTOM];
    const heading = drawing.getAttribute("aria-label");
    const off = new Set(data.series.flatMap((own, i) => (own.asked ? [i] : [])));
    const start = { log: Boolean(data.y.log), from: data.x.low, to: data.x.high };
    const state = { ...start, at: null };

    const shown = (i) => !off.has(i) && !hiddenRuns.has(data.series[i].run);
    const inside = (x) => x >= state.from - 1e-9 && x <= state.to + 1e-9;
    const points = (own) => (own.points || []).filter(([x]) => inside(x));
    const pixels = () => ({ low: state.from, high: state.to, ends: [left + 10, right - 8] });
    const stops = () => [...new Set(data.series.flatMap((own, i) => (shown(i) ? points(own).map(([x]) => x) : [])))].sort((a, b) => a - b);
    const short = (x) => data.places ? data.places[x].replace(/^layer /, "") : x.toLocaleString("en", { maximumFractionDigits: 1 }) + (data.x.at === "%" ? "%" : "");
    const long = (x) => data.places ? data.places[x] : data.x.at === "%" ? `at ${short(x)}` : `${data.x.at} ${short(x)}`;

    const zoomed = () => state.from !== start.from || state.to !== start.to;
    // Until something is hidden, or the scale or the range is another, the axis is the one that came with the chart.
    const fitted = () => data.y.low !== undefined && (data.free || (!zoomed() && state.log === start.log && data.series.every((own, i) => own.asked || shown(i))));
    function upright() {
      if (fitted()) return { ...data.y, ends: [bottom, top] };
      const values = data.series.flatMap((own, i) => {
        if (!shown(i) || own.asked) return [];
        if (own.kind === "zone") return [own.low, own.high].filter((v) => v !== null);
        return points(own).flatMap(([, low, high]) => (own.kind === "line" ? [low] : [low, high]));
      });
      return { ...spanning(values, data.y, state.log && values.some((v) => v > 0)), ends: [bottom, top] };
    }

    function arrange() {
      const [x, y] = [pixels(), upright()];
      data.series.forEach((own, i) => {
        const beyond = own.kind === "zone" && ((own.low !== null && own.low > y.high) || (own.high !== null && own.high < y.low));
        groups[i].classList.toggle("off", !shown(i) || beyond);
        move(groups[i], own, x, y);
      });
      for (const name of names) {
        const own = name.dataset.of.split(" ").map(Number);
        name.hidden = own.every((i) => hiddenRuns.has(data.series[i].run));
        name.setAttribute("aria-pressed", own.some((i) => !off.has(i)));
        const { kind, low, high, name: called } = data.series[own[0]];
        if (kind === "zone") name.lastChild.textContent = called + (low !== null && low > y.high ? " ↑" : high !== null && high < y.low ? " ↓" : "");
      }
      drawAxes(x, y);
      if (state.at !== null) point(state.at);
    }

    function move(group, own, x, y) {
      if (own.kind === "zone") {
        const [high, low] = [own.high === null ? top : place(y, own.high), own.low === null ? bottom : place(y, own.low)];
        const tall = Math.max(low - high, 1.5);
        set(group.firstElementChild, { y: Math.min(high, bottom - tall), height: tall });
        return;
      }
      const at = own.points.map(([px, low, high]) => [place(x, px), place(y, low), own.kind === "line" ? 0 : place(y, high)]);
      const kept = own.points.map(([px]) => inside(px));
      const marks = [...group.querySelectorAll(":scope > :not(polyline, polygon)")];
      marks.forEach((mark, k) => {
        const [px, low, high] = at[k];
        mark.classList.toggle("off", !kept[k]);
        if (mark.tagName === "circle") set(mark, { cx: px, cy: low });
        else if (mark.tagName === "path") set(mark, { d: `M${px - 4} ${low - 4}l8 8m0-8l-8 8` });
        else set(mark, { x: px - BAR / 2, y: high, height: Math.max(low - high, 1.5) });
      });
      const there = at.filter((_, k) => kept[k]);
      const line = group.querySelector("polyline");
      if (line) set(line, { points: there.map(([px, py]) => `${px},${py}`).join(" ") });
      const area = group.querySelector("polygon");
      if (area) set(area, { points: [...there.map(([px, , high]) => `${px},${high}`), ...there.reverse().map(([px, low]) => `${px},${low}`)].join(" ") });
    }

    const set = (element, attributes) => { for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value); };

    function drawAxes(x, y) {
      const parts = [];
      const levels = ticks(y, height > 200 ? 6 : 4);
      let digits = 3;
      while (digits < 8 && new Set(levels.map((v) => show(data.y, v, digits))).size < levels.length) digits++;
      for (const value of levels) {
        const py = place(y, value);
        parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: py, y2: py }));
        parts.push(svg("text", { class: "tick end", x: left - 7, y: py + 4 }, show(data.y, value, digits)));
      }
      parts.push(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
      const places = !zoomed() && data.ticks ? data.ticks : (data.x.at === "%" && !data.places ? ticks(x, 5) : stops()).map((v) => [v, short(v)]);
      let last = null;
      for (const [value, label] of [...places].reverse()) {
        const px = place(x, value);
        if (last && last[0] - px < LETTER * ((last[1].length + label.length) / 2 + 1)) continue;
        parts.push(svg("text", { class: "tick middle", x: px, y: bottom + 15 }, label));
        last = [px, label];
      }
      parts.push(svg("text", { class: "tick middle name", x: (left + right) / 2, y: height - 4 }, data.x.name));
      axes.replaceChildren(...parts);
    }

    // --- the crosshair
    const cross = svg("g", { class: "cross", "aria-hidden": "true" });
    const target = svg("rect", { class: "target", x: left, y: top, width: right - left, height: bottom - top, tabindex: 0, role: "slider", "aria-label": `${heading}: figures at ${data.places ? "a layer" : "a checkpoint"}`, "aria-valuemin": data.x.low, "aria-valuemax": data.x.high });
    const box = svg("rect", { class: "zoom off", y: top, height: bottom - top });
    drawing.append(box, cross, target);
    drawing.setAttribute("role", "group");

    // Each series that is shown with its point there; of runs with checkpoints of their own the nearest within 2%.
    function there(stop) {
      return data.series.flatMap((own, i) => {
        if (!shown(i)) return [];
        if (own.kind === "zone") return [[own, i, null]];
        const near = points(own).reduce((best, one) => (best && Math.abs(best[0] - stop) <= Math.abs(one[0] - stop) ? best : one), null);
        return near && Math.abs(near[0] - stop) <= 0.02 * (state.to - state.from) ? [[own, i, near]] : [];
      });
    }

    const said = (own, near) => {
      if (own.kind !== "line") return between(data.y, ...(near ? near.slice(1) : [own.low, own.high]));
      const verdict = near[2] === 0 ? " ✕ violates" : near[2] === 1 ? " ● holds" : "";
      return show(data.y, near[1], 4) + verdict + (near[3] === undefined ? "" : ` (step ${near[3].toLocaleString("en")})`);
    };

    function point(stop, event) {
      state.at = stop;
      const [x, y] = [pixels(), upright()];
      const found = data.free ? [stop] : there(stop).sort(([one], [other]) => (other.kind === "line") - (one.kind === "line"));
      const px = place(x, data.free ? stop[2][0] : stop);
      const marks = data.free ? [] : [svg("line", { x1: px, x2: px, y1: top, y2: bottom })];
      for (const [own, , near] of found) if (near && own.kind === "line") marks.push(svg("circle", { cx: place(x, near[0]), cy: place(y, near[1]), r: 6 }));
      cross.replaceChildren(...marks);
      const spot = data.free ? `${data.x.name} ${short(stop[2][0])}` : long(stop);
      const rows = found.map(([own, i, near]) => {
        const row = html("div", undefined, "reading");
        const swatch = names.find((name) => name.dataset.of.split(" ").includes(String(i)))?.querySelector(".swatch");
        row.append(...(swatch ? [swatch.cloneNode(true)] : []), `${own.name}${own.name ? ": " : ""}${said(own, near)}`);
        return row;
      });
      target.setAttribute("aria-valuenow", data.free ? px : stop);
      target.setAttribute("aria-valuetext", [spot, ...rows.map((row) => row.textContent)].join(", "));
      const frame = drawing.getBoundingClientRect();
      const scale = frame.width / width;
      tell([html("b", spot), ...rows], event ? event.clientX : frame.left + (px - edge) * scale, event ? event.clientY : frame.top + (top + 20) * scale);
    }
    function leave() { state.at = null; cross.replaceChildren(); hush(); }

    function where(event) {
      const frame = drawing.getBoundingClientRect();
      return [edge + ((event.clientX - frame.left) * width) / frame.width, ((event.clientY - frame.top) * height) / frame.height];
    }

    const free = () => data.series.flatMap((own, i) => (shown(i) ? (own.points || []).map((one) => [own, i, one]) : []));
    function nearest(event) {
      const [px, py] = where(event);
      const [x, y] = [pixels(), upright()];
      const candidates = data.free ? free() : stops();
      const far = (one) => (data.free ? Math.hypot(place(x, one[2][0]) - px, place(y, one[2][1]) - py) : Math.abs(place(x, one) - px));
      return candidates.reduce((best, one) => (best !== null && far(best) <= far(one) ? best : one), null);
    }

    let dragged = null;
    target.addEventListener("pointermove", (event) => {
      event.stopPropagation();
      const stop = nearest(event);
      if (stop !== null) point(stop, event);
      if (dragged === null) return;
      const [a, b] = [dragged, Math.min(Math.max(where(event)[0], left), right)].sort((p, q) => p - q);
      box.classList.toggle("off", b - a < 8);
      set(box, { x: a, width: b - a });
    });
    target.addEventListener("pointerdown", (event) => {
      const stop = nearest(event);
      if (stop !== null) point(stop, event);
      if (event.pointerType !== "mouse" || event.button !== 0 || data.free) return;
      dragged = where(event)[0];
      target.setPointerCapture(event.pointerId);
    });
    target.addEventListener("pointerup", (event) => {
      if (dragged === null) return;
      const [a, b] = [dragged, where(event)[0]].sort((p, q) => p - q);
      dragged = null;
      box.classList.add("off");
      const x = pixels();
      const within = stops().filter((stop) => place(x, stop) >= a - 4 && place(x, stop) <= b + 4);
      if (b - a >= 8 && within.length > 1) zoom(within[0], within[within.length - 1]);
    });
    target.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== target) leave(); });
    target.addEventListener("blur", leave);
    target.addEventListener("dblclick", reset);
    target.addEventListener("keydown", (event) => {
      const all = data.free ? free() : stops();
      if (event.key === "Escape") { leave(); return; }
      const now = data.free ? all.findIndex((one) => state.at && one[1] === state.at[1] && one[2] === state.at[2]) : all.indexOf(state.at);
      const to = { ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now < 0 ? all.length - 1 : now - 1, ArrowDown: now - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined || !all.length) return;
      event.preventDefault();
      point(all[Math.min(Math.max(to, 0), all.length - 1)]);
    });
    target.addEventListener("focus", () => { if (state.at === null && target.matches(":focus-visible")) { const all = data.free ? free() : stops(); if (all.length) point(all[all.length - 1]); } });

    // --- names
    for (const name of names) {
      const own = name.dataset.of.split(" ").map(Number);
      name.title = "Show or hide";
      name.addEventListener("click", () => {
        const hide = own.some((i) => !off.has(i));
        for (const i of own) hide ? off.add(i) : off.delete(i);
        change({});
        highlight(hide ? null : own);
      });
      const light = () => highlight(own.some(shown) ? own : null);
      for (const kind of ["pointerenter", "focus"]) name.addEventListener(kind, light);
      for (const kind of ["pointerleave", "blur"]) name.addEventListener(kind, () => highlight(null));
    }
    const highlight = (own) => groups.forEach((group, i) => group.classList.toggle("faded", own !== null && !own.includes(i)));

    // --- tools
    function change(to) {
      Object.assign(state, to);
      arrange();
      report();
    }
    function zoom(from, to) { change({ from, to }); }
    function reset() { change({ from: start.from, to: start.to }); }

    const tools = html("div", undefined, "tools");
    const log = button("log", () => change({ log: !state.log }));
    log.title = "Logarithmic or linear";
    const whole = button("all steps", reset);
    if (data.places) whole.textContent = "all layers";
    const menu = html("details");
    const summary = html("summary", "⋯");
    summary.setAttribute("aria-label", `More for the chart ${heading}`);
    menu.append(summary);
    menu.addEventListener("toggle", () => { if (menu.open && menu.children.length === 1) menu.append(inner()); });
    menu.addEventListener("keydown", (event) => { if (event.key === "Escape") { menu.open = false; summary.focus(); } });
    if (!data.free) tools.append(log, whole);
    tools.append(menu);
    plot.prepend(tools);

    let ends = [];
    function inner() {
      const sheet = html("div", undefined, "menu");
      if (!data.free) {
        ends = ["From", "to"].map((word, side) => {
          const label = html("label", `${word} `);
          const choice = html("select");
          for (const stop of new Set(data.series.flatMap((own) => (own.points || []).map(([x]) => x)).sort((a, b) => a - b))) {
            const option = html("option", long(stop));
            option.value = stop;
            choice.append(option);
          }
          choice.addEventListener("change", () => {
            const wanted = ends.map((own) => Number(own.value));
            if (wanted[0] < wanted[1]) zoom(...wanted);
            else if (side === 0) zoom(wanted[0], start.to);
            else zoom(start.from, wanted[1]);
          });
          label.append(choice);
          sheet.append(label);
          return choice;
        });
      }
      const line = html("p", "Save as ");
      line.append(button("SVG", () => save(`${file}.svg`, new Blob([picture()], { type: "image/svg+xml" }))), " ", button("PNG", png), " ", button("CSV", () => save(`${file}.csv`, new Blob([table()], { type: "text/csv" }))));
      sheet.append(line, html("p", data.free ? "" : "Drag across the chart to look closer; double-click for all.", "hint"));
      report();
      return sheet;
    }

    function report() {
      log.setAttribute("aria-pressed", state.log);
      whole.hidden = !zoomed();
      const all = ends.length ? [...ends[0].options].map((option) => Number(option.value)) : [];
      [state.from, state.to].forEach((end, side) => { if (ends[side]) ends[side].value = all.reduce((best, one) => (Math.abs(one - end) < Math.abs(best - end) ? one : best), all[0]); });
    }

    // --- files
    const file = heading.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "chart";

    function picture() {
      const legend = names.filter((name) => !name.hidden && name.getAttribute("aria-pressed") === "true");
      const [up, row] = [24, 17];
      const tall = up + height + row * legend.length + 6;
      const whole = svg("svg", { xmlns: SVG, viewBox: `${edge} ${-up} ${width} ${tall}`, width: 2 * width, height: 2 * tall });
      const look = getComputedStyle(document.body);
      whole.append(svg("rect", { x: edge, y: -up, width, height: tall, fill: look.backgroundColor }));
      const text = { "font-family": look.fontFamily, fill: look.color };
      const title = heading.length > 64 ? heading.slice(0, 63) + "…" : heading;
      whole.append(svg("text", { ...text, x: 0, y: -8, "font-size": 11, "font-weight": 600 }, title));
      for (const child of drawing.children) { const copy = inlined(child); if (copy) whole.append(copy); }
      legend.forEach((name, i) => {
        const swatch = svg("g", { transform: `translate(${left} ${height + row * i})` });
        for (const child of name.querySelector(".swatch").children) swatch.append(inlined(child));
        whole.append(swatch, svg("text", { ...text, x: left + 28, y: height + row * i + 10, "font-size": 11 }, name.textContent.trim()));
      });
      return new XMLSerializer().serializeToString(whole);
    }

    function png() {
      const image = new Image();
      image.addEventListener("load", () => {
        const canvas = html("canvas");
        [canvas.width, canvas.height] = [image.width, image.height];
        canvas.getContext("2d").drawImage(image, 0, 0);
        canvas.toBlob((blob) => save(`${file}.png`, blob));
      });
      image.src = "data:image/svg+xml," + encodeURIComponent(picture());
    }

    function table() {
      const rows = [[data.x.name, ...(data.x.at === "%" ? ["step"] : []), "series", "value", "low", "high", "holds"]];
      for (const own of data.series) {
        if (own.kind === "zone") rows.push(["", ...(data.x.at === "%" ? [""] : []), own.name, "", own.low, own.high, ""]);
        for (const [x, low, high, step] of own.points || []) {
          const value = own.kind === "line" ? [low, "", "", high === 1 ? "yes" : high === 0 ? "no" : ""] : ["", low, high, ""];
          rows.push([data.places ? data.places[x] : x, ...(data.x.at === "%" ? [step] : []), own.name, ...value]);
        }
      }
      return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
    }

    report();
    const chart = { plot, data, picture, table, runs: () => change({}) };
    if (data.y.low === undefined) change({});
    return chart;
  }

  function start(within) {
    for (const plot of within.querySelectorAll(".plot")) { const chart = enhance(plot); if (chart) charts.push(chart); }
  }

  function hideRuns(runs) {
    hiddenRuns.clear();
    for (const run of runs) hiddenRuns.add(run);
    for (const { data, runs: again } of charts) if (data.series.some((own) => own.run !== undefined)) again();
  }

  start(document);
  return { svg, html, plain, show, tell, hush, start, hideRuns };
})();
