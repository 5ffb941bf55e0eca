// All points as one table: the charts' choice, sorted, 25 at a time.
const PAGE = 25;
const HEAD = [
  ["method", (i) => P.m[i]], ["data set", (i) => P.d[i]], ["seed", (i) => P.s[i]], ["budget", (i) => P.b[i]],
  ["status", (i) => P.st[i]], [D.score, (i) => P.acc[i]], ["MACs", (i) => P.macs[i]], ["parameters", (i) => P.params[i]],
  ["latency, ms", (i) => P.latency[i]], ["submodel", (i) => word(P.key[i])], ["", null],
];
const list = { page: 0, by: null, down: false };

function chosenPoints(now) {
  const found = [];
  for (let i = 0; i < Z; i++) if (now.m.has(P.m[i]) && now.d.has(P.d[i]) && now.b.has(P.b[i])) found.push(i);
  if (list.by === null) return found;
  const of = HEAD[list.by][1], turned = list.down ? -1 : 1;
  const rank = (value) => (some(value) && value !== "" ? 0 : 1); // what is missing comes last either way
  return found.sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    return rank(x) - rank(y) || (x < y ? -turned : x > y ? turned : a - b);
  });
}

function pointRow(i) {
  const show = make("button", { type: "button", "aria-label": `show seed ${P.s[i]} of ${D.methods[P.m[i]]} on ${D.datasets[P.d[i]]} at ${share(D.budgets[P.b[i]])}` }, "show");
  show.addEventListener("click", () => { opener = show; pin({ i }, false); $("details").focus(); });
  const cell = (...inner) => make("td", {}, ...inner), n = (text) => make("td", { class: "n" }, text);
  return make("tr", {}, make("th", { scope: "row", class: kindOf(D.methods[P.m[i]], false) }, D.methods[P.m[i]]), make("td", { class: kindOf(D.datasets[P.d[i]], false) }, D.datasets[P.d[i]]), n(String(P.s[i])),
    n(share(D.budgets[P.b[i]])), cell(D.statuses[P.st[i]]), n(some(P.acc[i]) ? percent(P.acc[i]) + interval(percent, P.lo[i], P.hi[i]) : "–"),
    n(si(P.macs[i])), n(si(P.params[i])), n(plain(P.latency[i])), cell(make("code", {}, word(P.key[i]) || "–")), cell(show));
}

function headOf(at) {
  const [name, of] = HEAD[at];
  if (!of) return make("th", { scope: "col" }, make("span", {}, "details"));
  const sorted = list.by === at ? (list.down ? "descending" : "ascending") : null;
  const sign = sorted ? (list.down ? " ↓" : " ↑") : "";
  const press = () => {
    if (list.by === at) list.down = !list.down; else Object.assign(list, { by: at, down: false });
    list.page = 0;
    drawPoints();
    $("points-table").querySelectorAll("thead button")[at].focus();
  };
  const right = [2, 3, 5, 6, 7, 8].includes(at);
  return make("th", { scope: "col", "aria-sort": sorted, class: right ? "n" : null }, make("button", { type: "button", on: { click: press } }, name + sign));
}

function drawPoints() {
  const found = chosenPoints(state()), last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
  list.page = Math.min(list.page, last);
  const from = list.page * PAGE, shown = found.slice(from, from + PAGE);
  const summary = found.length ? `Points ${from + 1} to ${from + shown.length} of ${found.length}` : "No point for this choice";
  const go = (step, id, text, off) => make("button", { type: "button", id, disabled: off, on: { click: () => {
    list.page += step;
    drawPoints();
    const again = $(id);
    (again.disabled ? $("points-table").querySelector("button:not(:disabled)") : again).focus();
  } } }, text);
  $("points-table").replaceChildren(
    make("div", { class: "pager" }, go(-1, "points-back", "Previous", list.page === 0), go(1, "points-on", "Next", list.page === last), make("span", { role: "status" }, summary)),
    make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Points" },
      make("table", {}, make("caption", {}, `Points, ${D.score}${P.lo.some(some) ? " with Wilson's 95 % interval over test images" : ""}`),
        make("thead", {}, make("tr", {}, ...HEAD.map((_, at) => headOf(at)))), make("tbody", {}, ...shown.map(pointRow)))));
}
