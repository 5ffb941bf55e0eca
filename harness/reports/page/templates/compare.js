// A against B: everything was computed with the page; the browser only turns the sign round.
const K = D.compare;
let forest = null;

function chosenPair() {
  const a = Number($("pair-a").value), b = Number($("pair-b").value);
  const at = K.pairs.findIndex(([x, y]) => x === Math.min(a, b) && y === Math.max(a, b));
  return { a, b, at, sign: a < b ? 1 : -1 };
}

function differences(pair) {
  const R = K.rows, found = [];
  R.p.forEach((p, i) => {
    if (p !== pair.at) return;
    const ends = [R.lo[i], R.hi[i]].map((v) => (some(v) ? pair.sign * v : null));
    if (pair.sign < 0) ends.reverse();
    found.push({ b: R.b[i], d: R.d[i], n: R.n[i], y: some(R.y[i]) ? pair.sign * R.y[i] : null, lo: ends[0], hi: ends[1], why: word(R.why[i]) });
  });
  return found;
}

const apart = (one) => (some(one.lo) && (one.lo > 0 || one.hi < 0) ? " ≠" : "");
const difference = (one) => (one ? `${points(one.y)}${some(one.lo) ? ` (${points(one.lo)} to ${points(one.hi)})` : ` (n/a: ${one.why})`}${apart(one)}` : "–");
const chance = (value) => (some(value) ? `${(100 * value).toFixed(0)}\u00a0%` : "n/a");

function overall(pair, found) {
  const T = K.tests;
  return T.p.flatMap((p, i) => (p === pair.at ? [i] : [])).map((i) => {
    const at = (d) => found.find((one) => one.b === T.b[i] && one.d === d);
    const [won, lost] = pair.sign > 0 ? [T.win[i], T.loss[i]] : [T.loss[i], T.win[i]];
    const [better, worse] = pair.sign > 0 ? [T.a[i], T.z[i]] : [T.z[i], T.a[i]];
    return [share(D.budgets[T.b[i]]), difference(at(-1)), difference(at(-2)), `${won} / ${T.tie[i]} / ${lost}`,
      `${chance(better)} / ${chance(T.same[i])} / ${chance(worse)}`, String(at(-1).n)];
  });
}

async function drawForest(found) {
  const rows = found.filter((one) => one.d === -1).sort((a, b) => a.b - b.b)
    .map((one) => ({ label: share(D.budgets[one.b]), y: 100 * one.y, lo: 100 * (one.lo ?? one.y), hi: 100 * (one.hi ?? one.y) }));
  $("pair-figure").hidden = !rows.length;
  if (!rows.length) return;
  const [low, high] = limits([0, ...rows.flatMap((row) => [row.y, within(row.lo, row.y - 15, row.y), within(row.hi, row.y, row.y + 15)])], 0.05);
  const data = { rows, signals: { low, high } };
  if (forest) await update(forest, data);
  else {
    forest = (await embed($("pair-chart"), "forest", data)).view;
    $("pair-chart").querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
  }
}

async function compare() {
  const pair = chosenPair(), [a, b] = [D.methods[pair.a], D.methods[pair.b]];
  const found = pair.at < 0 ? [] : differences(pair);
  const summary = $("pair-summary");
  if (!found.length) {
    summary.textContent = pair.a === pair.b ? "Choose two different methods." : "They share no data set, seed and budget with a number: nothing can be paired.";
    $("pair-tables").replaceChildren();
    $("pair-figure").hidden = true;
    return;
  }
  const whole = found.filter((one) => one.d === -1);
  const [up, down] = [whole.filter((one) => some(one.lo) && one.lo > 0).length, whole.filter((one) => some(one.hi) && one.hi < 0).length];
  summary.textContent = `${a} minus ${b}: above 0 with its whole interval at ${up} of ${many(whole.length, "budget")}, below 0 at ${down}; undecided at ${whole.length - up - down}.`;
  const sets = D.datasets.map((name, d) => [name, ...D.budgets.map((_, at) => {
    const one = found.find((other) => other.b === at && other.d === d);
    return one ? `${difference(one)}, ${many(one.n, "pair")}` : "–";
  })]);
  const zone = 100 * K.zone;
  $("pair-tables").replaceChildren(
    tableOf(`${a} minus ${b}, mean over data sets, in points`, ["budget", "these sets", "sets like these", "sets won / tied / lost", `P(A better / within ${zone} points / B better)`, "pairs of seeds"], overall(pair, found), true),
    tableOf(`${a} minus ${b}, by data set, in points`, ["data set", ...D.budgets.map(share)], sets, true));
  await drawForest(found);
}
