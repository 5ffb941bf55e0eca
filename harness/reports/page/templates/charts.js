// Panels: one a data set, and their mean. Specifications come with the page; here they get their rows.
const LEVELS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const panels = new Map(); // set (-1: their mean) to {figure, holder, kind, view}
const within = (value, low, high) => Math.min(high, Math.max(low, value));

function meansOf(metric, set, now) {
  return (MEANS.get(`${metric} ${set}`) || []).filter((i) => now.m.has(M.m[i]) && (M.b[i] < 0 || now.b.has(M.b[i])));
}

function seedsOf(metric, set, now) {
  if (!now.seeds || set < 0) return [];
  if (METRICS[metric].cell) return CELLS_BY_SET[set].filter((i) => now.m.has(C.m[i]) && some(C[metric][i]));
  return BY_SET[set].filter((i) => now.m.has(P.m[i]) && now.b.has(P.b[i]) && some(METRICS[metric].of(i)) && some(P.macs[i]));
}

// Where there is no interval, or none is wanted, the whisker has no length.
function meanRow(i, now) {
  const [lo, hi] = now.whiskers && some(M.lo[i]) ? [M.lo[i], M.hi[i]] : [M.y[i], M.y[i]];
  return { m: M.m[i], j: i, x: M.x[i], y: M.y[i], lo, hi, o: ODD.has(`${M.m[i]} ${M.d[i]} ${M.b[i]}`) };
}

function curveRows(indices, now) {
  const error = now.metric === "accuracy", rows = indices.map((i) => meanRow(i, now));
  rows.sort((a, b) => a.m - b.m || a.x - b.x);
  let best = null, method = null;
  for (const row of rows) {
    best = row.m === method ? Math.max(best, row.y) : row.y;
    method = row.m;
    row.f = error ? best : row.y;
    Object.assign(row, { e: 1 - row.y, el: 1 - row.lo, eh: 1 - row.hi, ef: 1 - best });
  }
  return rows;
}

function limits(values, margin) {
  const low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low) * margin || Math.abs(high) * 0.05 || 1;
  return [low - pad, high + pad];
}

// Round errors; where few lie in a narrow panel, evenly spaced ones.
function errorTicks(low, high) {
  const round = LEVELS.filter((e) => e >= low && e <= high);
  if (round.length >= 4) return round;
  const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((times) => times * unit >= rough);
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  return Array.from({ length: Math.max(0, count) }, (_, at) => Number(((first + at) * step).toPrecision(6)));
}

function curveData(set, now) {
  const metric = now.metric;
  const rows = curveRows(meansOf(metric, set, now).filter((i) => some(M.x[i]) && M.x[i] > 0), now);
  const value = METRICS[metric].of;
  const seeds = seedsOf(metric, set, now).map((i) => ({ m: P.m[i], i, x: P.macs[i], y: value(i), e: 1 - value(i), o: suspicious(i) }));
  const shown = [...rows, ...seeds];
  const full = set < 0 ? P.full.find(some) : P.full[BY_SET[set].find((i) => some(P.full[i]))];
  const signals = {};
  if (shown.length) {
    const xs = shown.map((row) => row.x);
    Object.assign(signals, { left: Math.min(...xs) / 1.12, right: Math.max(...xs) * 1.12, full: full || 1 });
    const places = [...now.b].sort((a, b) => a - b).map((b) => D.budgets[b] * (full || 0));
    signals.xticks = places.filter((x) => x >= signals.left && x <= signals.right);
    if (now.kind === "error") {
      const floor = 0.0005;
      shown.forEach((row) => ["e", "el", "eh", "ef"].forEach((key) => { if (some(row[key])) row[key] = Math.max(row[key], floor); }));
      const es = shown.map((row) => row.e);
      Object.assign(signals, { low: Math.min(...es) / 1.15, high: Math.min(1, Math.max(...es) * 1.15) });
      signals.yticks = errorTicks(signals.low, signals.high);
    } else {
      [signals.low, signals.high] = limits(shown.map((row) => row.y), 0.06);
    }
  }
  return { rows, seeds, signals };
}

function stripData(set, now) {
  const metric = now.metric;
  const rows = meansOf(metric, set, now).map((i) => meanRow(i, now));
  const seeds = seedsOf(metric, set, now).map((i) => ({ m: C.m[i], i, y: C[metric][i] }));
  const signals = { names: D.methods };
  const values = [...rows, ...seeds].map((row) => row.y);
  if (values.length) [signals.low, signals.high] = limits(values, 0.08);
  return { rows, seeds, signals };
}

// What this machine's Vega gets: an interpreter instead of `eval`, no menus, and our own tooltip.
function embed(holder, name, data, tip) {
  const spec = JSON.parse(JSON.stringify(D.specs[name]).replaceAll("FULL", data.signals.full > 1 ? si(data.signals.full) : ""));
  spec.datasets = { rows: data.rows, seeds: data.seeds || [] };
  for (const param of spec.params) if (param.name in data.signals) param.value = data.signals[param.name];
  return window.vegaEmbed(holder, spec, {
    mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, config: D.theme, logLevel: 1,
    tooltip: tip || (() => {}),
  });
}

function update(view, data) {
  for (const [name, value] of Object.entries(data.signals)) view.signal(name, value);
  view.data("rows", data.rows);
  if (data.seeds) view.data("seeds", data.seeds);
  return view.runAsync();
}

function panelFor(set) {
  if (!panels.has(set)) {
    const name = set < 0 ? `Mean over all ${D.datasets.length} data sets` : D.datasets[set];
    const note = make("span", { class: "note" });
    const holder = make("div", { class: "chart", role: "img" });
    const absent = make("p", { class: "note" });
    const figure = make("figure", { "data-set": set }, make("figcaption", {}, name, " ", note), holder, absent);
    panels.set(set, { name, note, holder, absent, figure, kind: null, view: null });
  }
  return panels.get(set);
}

// What the panel cannot draw: "matformer unreachable at 20 %, 40 %".
function absentOf(set, now) {
  const found = new Map();
  const here = METRICS[now.metric].cell ? [] : set < 0 ? [...now.d].flatMap((d) => BY_SET[d]) : BY_SET[set];
  for (const i of here) {
    if (some(P.acc[i]) || !now.m.has(P.m[i]) || !now.b.has(P.b[i])) continue;
    const key = `${D.methods[P.m[i]]} ${D.statuses[P.st[i]]}`;
    found.set(key, (found.get(key) || new Set()).add(P.b[i]));
  }
  return [...found].map(([key, at]) => `${key} at ${[...at].sort((a, b) => a - b).map((b) => share(D.budgets[b])).join(", ")}`).join("; ");
}

async function drawPanel(set, now) {
  const panel = panelFor(set), strip = Boolean(METRICS[now.metric].cell);
  const data = strip ? stripData(set, now) : curveData(set, now);
  const count = data.rows.length + data.seeds.length;
  panel.note.textContent = count ? "" : "no number for this choice";
  panel.holder.hidden = !count;
  panel.absent.textContent = absentOf(set, now);
  const title = $("metric").selectedOptions[0].textContent;
  panel.holder.setAttribute("aria-label", `${panel.name}: ${title}${strip ? "" : " against MACs"}; ${many(data.rows.length, "mean")} of ${many(new Set(data.rows.map((r) => r.m)).size, "method")}. The tables below have the numbers.`);
  if (!count) return data.rows.length;
  if (panel.kind === now.kind && panel.view) await update(panel.view, data);
  else {
    if (panel.view) panel.view.finalize();
    panel.kind = now.kind;
    panel.view = (await embed(panel.holder, now.kind, data, (_, event, item, value) => tip(event, value ? item.datum : null, strip))).view;
    panel.view.addEventListener("click", (_, item) => { if (item && item.datum) pin(item.datum, strip); });
    panel.holder.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
  }
  return data.rows.length;
}

let turn = 0;
async function draw() {
  const now = state(), mine = ++turn;
  const sets = [...[...now.d].sort((a, b) => a - b), ...(D.datasets.length > 1 && now.d.size > 1 ? [-1] : [])];
  $("panels").replaceChildren(...sets.map((set) => panelFor(set).figure));
  $("scale").disabled = now.metric !== "accuracy";
  const title = $("metric").selectedOptions[0].textContent, whole = Boolean(METRICS[now.metric].cell);
  $("charts-title").textContent = whole ? title : `${title}, against MACs`;
  $("charts-what").textContent = whole ? `${title}: one value a cell, which trains for all budgets.` : `${title}, of the submodel that a method chooses for each budget.`;
  let means = 0;
  for (const set of sets) {
    means += await drawPanel(set, now);
    if (mine !== turn) return; // a newer choice is being drawn
  }
  const few = now.m.size && now.m.size < D.methods.length ? ` of ${D.methods.length}` : "";
  const parts = [few ? `${now.m.size}${few} methods` : many(now.m.size, "method"), many(now.d.size, "data set"), many(now.b.size, "budget")];
  $("shown-points").textContent = means ? `Shown: ${parts.join(", ")}; ${many(means, "mean")}.` : `Nothing to show for ${parts.join(", ")}.`;
  $("panels").dataset.drawn = String(mine);
}
