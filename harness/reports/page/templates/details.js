// One point in full: beside the pointer, and pinned below for reading and copying.
const pairs = (entries) => make("dl", {}, ...entries.filter(([, value]) => value !== "" && some(value))
  .map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value))));
const interval = (show, low, high) => (some(low) && some(high) ? ` (${show(low)} to ${show(high)})` : "");

function pointEntries(i, full) {
  const entries = [
    ["method", D.methods[P.m[i]]], ["data set", D.datasets[P.d[i]]], ["seed", String(P.s[i])],
    ["budget", share(D.budgets[P.b[i]])], ["status", D.statuses[P.st[i]]], ["reason", word(P.why[i])],
    [D.score, some(P.acc[i]) ? `${percent(P.acc[i])}${interval(percent, P.lo[i], P.hi[i])}${some(P.lo[i]) ? ", Wilson 95 % over test images" : ""}` : ""],
    ["MACs", some(P.macs[i]) ? si(P.macs[i]) : ""], ["parameters", some(P.params[i]) ? si(P.params[i]) : ""],
    ["latency", some(P.latency[i]) ? `${plain(P.latency[i])} ms` : ""],
    ["submodel", make("code", {}, word(P.key[i]) || "–")], ["cell", make("code", {}, word(P.cell[i]) || "–")],
    ["commit", make("code", {}, word(COMMIT.get(P.cell[i])) || "not kept")],
    ["reproduce", make("code", { class: "command" }, command(P.m[i], P.d[i], P.s[i]))],
  ];
  return full ? entries : entries.filter(([key]) => key !== "status" || D.statuses[P.st[i]] !== "ok");
}

function cellEntries(i) {
  return [
    ["method", D.methods[C.m[i]]], ["data set", D.datasets[C.d[i]]], ["seed", String(C.s[i])],
    ["area", percent(C.area[i])], ["training MACs", si(C.train_macs[i])], ["training seconds", plain(C.train_seconds[i])],
    ["cell", make("code", {}, word(C.cell[i]))], ["commit", make("code", {}, word(C.commit[i]) || "not kept")],
    ["reproduce", make("code", { class: "command" }, command(C.m[i], C.d[i], C.s[i]))],
  ];
}

function meanEntries(j) {
  const metric = D.metrics[M.k[j]], show = METRICS[metric].show;
  const span = some(M.lo[j]) ? `${interval(show, M.lo[j], M.hi[j])}, 95 % over seeds` : `, interval n/a (${word(M.why[j])})`;
  return [
    ["method", D.methods[M.m[j]]], ["data set", M.d[j] < 0 ? "mean over all" : D.datasets[M.d[j]]],
    ["budget", M.b[j] < 0 ? "" : share(D.budgets[M.b[j]])], [metric.replace("_", " "), `${show(M.y[j])}${span}`],
    ["mean MACs", some(M.x[j]) ? si(M.x[j]) : ""], ["seeds", String(M.n[j])],
  ];
}

const ofMean = (j) => (M.d[j] < 0 || M.b[j] < 0 ? [] : BY_SET[M.d[j]].filter((i) => P.m[i] === M.m[j] && P.b[i] === M.b[j]));

function tip(event, datum, strip) {
  const box = $("tip");
  box.hidden = !datum || (!some(datum.i) && !some(datum.j));
  if (box.hidden) return;
  const entries = some(datum.i) ? (strip ? cellEntries(datum.i) : pointEntries(datum.i, false)) : meanEntries(datum.j);
  const seeds = some(datum.j) ? ofMean(datum.j) : [];
  const list = seeds.slice(0, 6).map((i) => make("p", {}, `seed ${P.s[i]}: ${percent(P.acc[i])} `, make("code", {}, word(P.key[i])), " cell ", make("code", {}, word(P.cell[i]))));
  box.replaceChildren(pairs(entries), ...list, make("p", { class: "note" }, "Click for all, with the command."));
  const bounds = box.getBoundingClientRect(), gap = 14;
  const left = event.clientX + gap + bounds.width > innerWidth ? event.clientX - gap - bounds.width : event.clientX + gap;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + gap, innerHeight - bounds.height - 4))}px`;
}

let opener = null;
function pin(datum, strip) {
  if (!some(datum.i) && !some(datum.j)) return;
  const mean = some(datum.j);
  const title = mean ? "Mean over seeds" : strip ? "One cell" : "One point";
  const parts = [pairs(mean ? meanEntries(datum.j) : strip ? cellEntries(datum.i) : pointEntries(datum.i, true))];
  const seeds = mean ? ofMean(datum.j).map((i) => make("div", {}, make("h3", {}, `Seed ${P.s[i]}`), pairs(pointEntries(i, true).slice(4)))) : [];
  parts.push(make("div", { class: "seeds" }, ...seeds));
  const close = make("button", { type: "button", id: "details-close", on: { click: unpin } }, "Close");
  $("details").replaceChildren(make("div", { class: "bar" }, make("h3", {}, title), close), ...parts);
  $("details").hidden = false;
  $("tip").hidden = true;
  $("details").scrollTop = 0;
}

function unpin() {
  $("details").hidden = true;
  if (opener && opener.isConnected) opener.focus();
  opener = null;
}
