// What all parts share. Texts go into the page as text, never as markup.
const D = JSON.parse(document.getElementById("data").textContent);
const P = D.points, M = D.means, C = D.cells;
const Z = P.m.length;
const $ = (id) => document.getElementById(id);

function make(tag, given, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(given || {})) {
    if (key === "on") for (const [kind, act] of Object.entries(value)) made.addEventListener(kind, act);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const word = (at) => (at === null || at === undefined ? "" : D.words[at]);
const some = (value) => value !== null && value !== undefined;
const percent = (value) => (some(value) ? `${(100 * value).toFixed(1)}\u00a0%` : "–");
const points = (value) => (some(value) ? `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)}` : "–");
const share = (budget) => `${Number((100 * budget).toPrecision(6))}\u00a0%`;
const many = (count, one, more) => `${count} ${count === 1 ? one : more || one + "s"}`;

function si(value) {
  if (!some(value)) return "–";
  for (const [size, unit] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(4))} ${unit}`;
  }
  return String(Number(value.toPrecision(4)));
}
const plain = (value) => (some(value) ? String(Number(value.toPrecision(4))) : "–");

const METRICS = {
  accuracy: { show: percent, of: (i) => P.acc[i] },
  use: { show: percent, of: (i) => (some(P.acc[i]) && some(P.macs[i]) && P.full[i] ? P.macs[i] / (D.budgets[P.b[i]] * P.full[i]) : null) },
  latency: { show: plain, of: (i) => (some(P.acc[i]) ? P.latency[i] : null) },
  params: { show: si, of: (i) => (some(P.acc[i]) ? P.params[i] : null) },
  area: { show: percent, cell: "area" },
  train_macs: { show: si, cell: "train_macs" },
  train_seconds: { show: plain, cell: "train_seconds" },
};

// Rows of equal (metric, set) together: what one panel draws.
const MEANS = new Map();
M.k.forEach((kind, i) => {
  const key = `${D.metrics[kind]} ${M.d[i]}`;
  if (!MEANS.has(key)) MEANS.set(key, []);
  MEANS.get(key).push(i);
});
const BY_SET = D.datasets.map(() => []);
for (let i = 0; i < Z; i++) BY_SET[P.d[i]].push(i);
const CELLS_BY_SET = D.datasets.map(() => []);
C.m.forEach((_, i) => CELLS_BY_SET[C.d[i]].push(i));
const suspicious = (i) => D.statuses[P.st[i]] === "suspicious";
const ODD = new Set(); // "method set budget" of means with a suspicious point; -1: over all sets, of whole cells
for (let i = 0; i < Z; i++) if (suspicious(i)) for (const d of [P.d[i], -1]) for (const b of [P.b[i], -1]) ODD.add(`${P.m[i]} ${d} ${b}`);
const COMMIT = new Map(C.cell.map((cell, i) => [cell, C.commit[i]]));

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
const command = (m, d, s) => `${D.run} --method ${quoted(D.methods[m])} --dataset ${quoted(D.datasets[d])} --seed ${s}`;

function state() {
  const form = $("filters");
  const ticked = (name) => new Set([...form.querySelectorAll(`input[name="${name}"]:checked`)].map((box) => Number(box.value)));
  const one = { m: ticked("m"), d: ticked("d"), b: ticked("b"), metric: $("metric").value, scale: $("scale").value, seeds: $("seeds").checked, whiskers: $("whiskers").checked };
  one.kind = one.metric === "accuracy" && one.scale === "error" ? "error" : one.metric;
  return one;
}

const kindOf = (text, right) => (text.length > 48 ? "long" : right ? "n" : null);

function tableOf(caption, head, rows, right) {
  const cells = (row) => row.map((text, at) => make(at ? "td" : "th", { scope: at ? null : "row", class: kindOf(text, at && right) }, text));
  return make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": caption },
    make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...head.map((text, at) => make("th", { scope: "col", class: kindOf(text, at && right) }, text)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))))));
}
