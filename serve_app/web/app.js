// The search page: one query is answered twice, by itself and with its rewrite, side by side.
// What the server says only ever becomes text nodes, so nothing in a catalog or a rewrite can become markup.

const DEADLINE_MS = 15_000;
const POLL_MS = 3_000;
const KEY = "cohyde-key";
const DEFAULTS = { mode: "rewrite", k: "5" };
const WEIGHED = ["reranked", "remembered"];
const SLICES = ["standard", "vague", "log"];
const CHART_HEIGHT = 240;
const BADGES = [
  ["exact_name", "exact name", "The query is the tool's name"],
  ["moved", "moved", "Moved towards queries that users found it by"],
  ["frozen", "frozen encoder", "What is found first is unlike all that training knew, so the frozen encoder answered"],
  ["named_by", "named above", "The description of a tool above names it as to be called"],
  ["pinned", "pinned", "The search asked for it in any case"],
  ["explored", "explored", "Stands here for the log's sake"],
];

const $ = (selector, within = document) => within.querySelector(selector);
const [queryField, modeField, kField] = ["#query", "#mode", "#k"].map((id) => $(id));
const [keyForm, labelForm] = ["#key-form", "#label-form"].map((id) => $(id));
const state = { query: "", answers: {}, search: null, release: null, releases: [], key: storedKey() };

const maker = (namespace) => (tag, attributes = {}, ...children) => {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const el = maker("http://www.w3.org/1999/xhtml");
const svg = maker("http://www.w3.org/2000/svg");

const say = (text) => ($("#status").textContent = text);
const percent = (share) => (100 * share).toFixed(1);

// --- the server and its key

class Failure extends Error {}

async function call(path, { body, signal } = {}) {
  const controller = new AbortController();
  const key = state.key;
  const cancel = () => controller.abort();
  const late = new Failure(`The server did not answer within ${DEADLINE_MS / 1000} s.`);
  const timer = setTimeout(() => controller.abort(late), DEADLINE_MS);
  signal?.addEventListener("abort", cancel);
  try {
    const response = await fetch(path, { ...requestOf(body), signal: controller.signal, cache: "no-store" });
    if (!response.ok) throw await failureOf(response, key);
    return await response.json();
  } catch (error) {
    // Browsers report every failure of the network as a TypeError, each with another text.
    throw error instanceof TypeError ? new Failure("The server cannot be reached.") : error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
  }
}

function requestOf(body) {
  const headers = { Accept: "application/json, application/problem+json" };
  if (state.key) headers.Authorization = `Bearer ${state.key}`;
  if (!body) return { headers };
  return { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

async function failureOf(response, key) {
  const problem = (await response.json().catch(() => null)) ?? {};
  // An answer to the key before this one says nothing of this one.
  if (response.status === 401 && key === state.key) askForKey();
  const fields = (problem.errors ?? []).map(({ field, message }) => `${field}: ${message}`);
  const text = problem.detail || problem.title || `The server answered with status ${response.status}.`;
  return new Failure([text, ...fields].join(" · "));
}

function storedKey() {
  // Browsers that are told to keep nothing refuse even the reading.
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function askForKey() {
  keyForm.hidden = false;
  $("#key-note").textContent = state.key ? "The server does not accept this API key." : "The server asks for an API key.";
}

function useKey(event) {
  event.preventDefault();
  state.key = $("#key").value.trim();
  keyForm.hidden = true;
  queryField.focus();
  loadReleases();
  search();
  sessionStorage.setItem(KEY, state.key);
}

// --- searching

async function search() {
  const query = queryField.value.trim();
  if (!query) return;
  state.search?.abort();
  const controller = new AbortController();
  Object.assign(state, { query, answers: {}, search: controller });
  showLabelForm(false);
  $("#release-note").textContent = "";
  $("#results").hidden = false;
  $("#results").setAttribute("aria-busy", "true");
  say("Searching …");
  await Promise.all([ask("raw", "raw", controller.signal), ask("rewritten", modeField.value, controller.signal)]);
  if (controller.signal.aborted) return;
  $("#results").setAttribute("aria-busy", "false");
  markChanges();
  const count = (side) => state.answers[side]?.tools.length ?? "no answer";
  const second = { reranked: "Reranked", remembered: "Remembered" }[modeField.value] ?? "With rewrite";
  $("#rewritten-title").textContent = second;
  say(`Tools found: ${count("raw")} by the raw query, ${count("rewritten")} ${second.toLowerCase()}.`);
  if (!keyForm.hidden) $("#key").focus();
}

async function ask(side, mode, signal) {
  const column = $(`#${side}`);
  const body = { query: state.query, k: Number(kField.value), mode, explain: true, min_score: -1 };
  try {
    const answer = await call("/v1/search", { body, signal });
    if (signal.aborted) return;
    state.answers[side] = answer;
    showAnswer(column, mode, answer);
  } catch (error) {
    // A search that a newer one replaced has nothing to say any more.
    if (!signal.aborted) showFailure(column, error);
  }
}

function clear() {
  state.search?.abort();
  Object.assign(state, { query: "", answers: {}, search: null });
  queryField.value = "";
  $("#results").hidden = true;
  showLabelForm(false);
  history.replaceState(null, "", location.pathname + location.search);
  say("");
  queryField.focus();
}

function keepInHash() {
  const kept = new URLSearchParams({ q: queryField.value.trim() });
  if (modeField.value !== DEFAULTS.mode) kept.set("mode", modeField.value);
  if (kField.value !== DEFAULTS.k) kept.set("k", kField.value);
  if (kept.get("q") && `#${kept}` !== location.hash) history.pushState(null, "", `#${kept}`);
}

function searchFromHash() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (!wanted.get("q")) return;
  const mode = wanted.get("mode");
  queryField.value = wanted.get("q");
  modeField.value = [...modeField.options].some((option) => option.value === mode) ? mode : DEFAULTS.mode;
  kField.value = wanted.get("k") ?? DEFAULTS.k;
  if (!kField.checkValidity()) kField.value = DEFAULTS.k;
  search();
}

// --- one column

function showAnswer(column, asked, answer) {
  const { release, mode, timings, tools } = answer;
  const facts = [`release ${release}`, mode, milliseconds(timings)];
  if (answer.abstained) facts.push("abstained: nothing is likely right");
  $(".facts", column).textContent = facts.join(" · ");
  $(".problem", column).textContent = "";
  $(".rewrites", column).replaceChildren(...rewriteNotes(asked, answer));
  // Cosines are shown as they are; sums of reciprocal ranks only mean something beside each other; likelihood and nearness add to cosines.
  const full = mode === "hybrid" ? Math.max(...tools.map((tool) => tool.score)) : 1;
  const share = (tool) => (WEIGHED.includes(mode) ? tool.explanation.query_cosine : tool.score / full);
  const items = tools.map((tool) => toolItem(tool, answer.request_id, share(tool)));
  $(".tools", column).replaceChildren(...(items.length ? items : [el("li", { class: "hint" }, "No tools.")]));
}

function showFailure(column, error) {
  for (const part of [".facts", ".rewrites", ".tools"]) $(part, column).replaceChildren();
  $(".problem", column).textContent = error.message;
}

function milliseconds({ total_ms: total, search_ms: found, rewrite_ms: rewritten, rerank_ms: read }) {
  const parts = Object.entries({ search: found, rewrite: rewritten, rerank: read }).filter(([, value]) => value != null);
  return `${total.toFixed(0)} ms (${parts.map(([name, value]) => `${name} ${value.toFixed(0)}`).join(", ")})`;
}

function rewriteNotes(asked, { rewrites, degraded, mode }) {
  const notes = rewrites.map((text) => el("blockquote", {}, text));
  const decided = asked === "auto" && mode === "raw";
  const why = decided ? "No rewrite: by the release's rule it does not pay for this query." : "No rewrite was used.";
  if (degraded) notes.push(el("p", { class: "warn" }, degraded));
  else if (!notes.length && asked !== "raw" && !WEIGHED.includes(mode)) notes.push(el("p", { class: "hint" }, why));
  return notes;
}

function toolItem(tool, requestId, share) {
  const title = tool.title || tool.name;
  const head = [
    el("span", { class: "rank" }, String(tool.rank)),
    el("h3", {}, title),
    el("span", { class: "change" }),
    el("span", { class: "score" }, tool.score.toFixed(3)),
  ];
  const reasons = tool.explanation ? why(tool.explanation) : [];
  const parts = [el("div", { class: "tool-head" }, ...head), scoreBar(share), el("code", {}, tool.tool_id)];
  parts.push(description(tool), ...reasons, feedbackButtons(tool.tool_id, title, requestId));
  return el("li", { class: "tool", "data-tool": tool.tool_id, "data-rank": tool.rank }, ...parts);
}

function scoreBar(share) {
  const width = 100 * Math.min(Math.max(share, 0), 1) || 0;
  const box = { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" };
  return svg("svg", box, svg("rect", { class: "all", width: 100, height: 4 }), svg("rect", { class: "part", width, height: 4 }));
}

function description(tool) {
  const place = tool.namespace ? `${tool.name} in ${tool.namespace}` : tool.name;
  const schema = JSON.stringify(tool.input_schema, null, 2);
  const summary = el("summary", {}, el("span", { class: "description" }, tool.description));
  const called = el("p", { class: "hint" }, `Called as ${place}, with this input:`);
  return el("details", {}, summary, called, el("pre", { tabindex: "0", role: "group", "aria-label": "Input schema" }, schema));
}

function why(explanation) {
  const { query_cosine: query, rewrite_cosine: rewrite, likelihood, nearness, words, shared_words: shared } = explanation;
  const by = { "query cosine": query, "rewrite cosine": rewrite, "log-likelihood": likelihood, "labelled query": nearness, BM25: words };
  const figures = Object.entries(by)
    .filter(([, value]) => value != null)
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value.toFixed(3))));
  const badges = BADGES.filter(([name]) => explanation[name]).map(([, text, title]) => el("span", { class: "badge", title }, text));
  const chips = shared.map((word) => el("li", {}, word));
  const parts = [el("dl", { class: "why" }, ...figures)];
  if (badges.length) parts.push(el("p", { class: "badges" }, ...badges));
  if (chips.length) parts.push(el("ul", { class: "chips", role: "list", "aria-label": "Shared words" }, ...chips));
  return parts;
}

function markChanges() {
  const { raw, rewritten } = state.answers;
  if (!raw || !rewritten) return;
  markColumn("raw", rewritten, "only here");
  markColumn("rewritten", raw, "new");
}

function markColumn(side, other, missing) {
  const ranks = new Map(other.tools.map((tool) => [tool.tool_id, tool.rank]));
  for (const item of document.querySelectorAll(`#${side} .tool`)) {
    const [mark, text, kind] = changeOf(ranks.get(item.dataset.tool), Number(item.dataset.rank), missing);
    // Screen readers spell the arrows out, or skip them.
    const spoken = el("span", { class: "unseen" }, text);
    $(".change", item).replaceChildren(el("span", { class: kind, title: text, "aria-hidden": "true" }, mark), spoken);
  }
}

function changeOf(there, here, missing) {
  if (there === undefined) return [missing, "not in the other column", "new"];
  if (there > here) return [`▲${there - here}`, `${there - here} higher than in the other column`, "up"];
  if (there < here) return [`▼${here - there}`, `${here - there} lower than in the other column`, "down"];
  return ["=", "same place as in the other column", "same"];
}

// --- feedback

async function sendFeedback(event) {
  const { written } = await call("/v1/feedback", { body: { events: [event] } });
  if (!written) throw new Failure("The server wrote nothing down.");
}

function feedbackButtons(toolId, title, requestId) {
  const problem = el("p", { class: "problem", role: "alert" });
  const button = (text, result) => {
    const made = el("button", { type: "button" }, text);
    const event = { type: "outcome", request_id: requestId, tool_id: toolId, result };
    made.addEventListener("click", () => note(made, problem, event, `Noted: ${title} ${text}.`));
    return made;
  };
  const buttons = [button("worked", "succeeded"), button("did not work", "failed")];
  return el("div", { class: "feedback", role: "group", "aria-label": `Feedback on ${title}` }, ...buttons, problem);
}

async function note(button, problem, event, said) {
  // Not the attribute `disabled`: it would take the focus away from who pressed the button by keyboard.
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  problem.textContent = "";
  try {
    await sendFeedback(event);
    button.textContent = "noted";
    say(said);
  } catch (error) {
    button.removeAttribute("aria-disabled");
    problem.textContent = error.message;
  }
}

function showLabelForm(open) {
  labelForm.hidden = !open;
  labelForm.reset();
  $("#none").setAttribute("aria-expanded", String(open));
  $("#label-problem").textContent = "";
  if (open) $("#label-id").focus();
}

async function sendLabel(event) {
  event.preventDefault();
  const [id, query] = [$("#label-id").value.trim(), state.query];
  if (!id || !query) return;
  $("#label-problem").textContent = "";
  try {
    const tool = await call(`/v1/tools/${encodeURIComponent(id)}`);
    await sendFeedback({ type: "label", query, tool_ids: [tool.tool_id], by: "page" });
    if (query !== state.query) return;
    showLabelForm(false);
    $("#none").focus();
    say(`Noted: ${tool.title || tool.name} is right for this query.`);
  } catch (error) {
    $("#label-problem").textContent = error.message;
  }
}

// --- what is served, and the releases

async function poll() {
  try {
    if (!document.hidden) showReady(await call("/readyz"));
  } catch (error) {
    $("#degraded").textContent = `Not ready: ${error.message}`;
  }
  setTimeout(poll, POLL_MS);
}

function showReady({ release, tools, rewriter, degraded }) {
  $("#release").textContent = release;
  $("#tools").textContent = tools.toLocaleString();
  $("#rewriter").textContent = rewriter;
  $("#degraded").textContent = degraded.join(" · ");
  if (release === state.release) return;
  if (state.release !== null) $("#release-note").textContent = `Release ${release} is served now`;
  state.release = release;
  loadReleases();
}

async function loadReleases() {
  try {
    const { releases } = await call("/v1/releases");
    state.releases = [...releases].sort((a, b) => a.number - b.number);
    $("#releases-problem").textContent = "";
    $("#releases").replaceChildren(...state.releases.map(releaseRow).reverse());
    drawChart();
  } catch (error) {
    $("#releases-problem").textContent = error.message;
  }
}

function releaseRow({ number, served, decision, reason, time, figures }) {
  const measured = slicesOf([{ figures }]).map((slice) => `${slice} ${percent(figures[slice])}`);
  const when = time == null ? "" : new Date(1000 * time).toLocaleString();
  const cells = [[decision, served ? "served" : ""].filter(Boolean).join(", "), measured.join(", "), reason, when];
  return el("tr", {}, el("th", { scope: "row" }, String(number)), ...cells.map((text) => el("td", {}, text || "–")));
}

function slicesOf(releases) {
  const names = [...new Set(releases.flatMap(({ figures }) => Object.keys(figures)))].sort();
  return [...SLICES.filter((slice) => names.includes(slice)), ...names.filter((name) => !SLICES.includes(name))];
}

function drawChart() {
  const releases = state.releases.filter(({ figures }) => Object.keys(figures).length);
  const slices = slicesOf(releases);
  $("#legend").replaceChildren(...(releases.length ? legend(slices) : []));
  if (!releases.length) return $("#chart").replaceChildren(el("p", { class: "hint" }, "No release has been measured yet."));
  const width = Math.max(240, $("#chart").clientWidth);
  const scale = scales(releases, width);
  const label = "NDCG@5 in percent by release number, one line a slice; the table below has the same figures";
  const frame = { viewBox: `0 0 ${width} ${CHART_HEIGHT}`, width, height: CHART_HEIGHT, role: "img", "aria-label": label };
  const lines = slices.flatMap((slice, index) => series(slice, `s${1 + (index % 4)}`, releases, scale));
  return $("#chart").replaceChildren(svg("svg", frame, ...axes(scale), ...servedMark(releases, scale), ...lines));
}

function scales(releases, width) {
  const box = { left: 38, right: width - 16, top: 38, bottom: CHART_HEIGHT - 40 };
  const values = releases.flatMap(({ figures }) => Object.values(figures).map((share) => 100 * share));
  const step = roundStep(Math.max(...values) - Math.min(...values), 4);
  const low = Math.floor(Math.min(...values) / step) * step;
  const high = Math.max(low + step, Math.ceil(Math.max(...values) / step) * step);
  const [first, last] = [releases[0].number, releases.at(-1).number];
  const part = (number) => (last === first ? 0.5 : (number - first) / (last - first));
  const x = (number) => box.left + 8 + part(number) * (box.right - box.left - 16);
  const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
  return { box, x, y, low, high, step, first, last };
}

function roundStep(span, parts) {
  const rough = Math.max(span, 1) / parts;
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10) * power;
}

function axes({ box, x, y, low, high, step, first, last }) {
  const text = (anchor, at, content) => svg("text", { ...at, "text-anchor": anchor }, content);
  const parts = [text("start", { x: 0, y: 12 }, "NDCG@5 (%)")];
  parts.push(text("middle", { x: (box.left + box.right) / 2, y: CHART_HEIGHT - 6 }, "release"));
  for (let value = low; value <= high + step / 2; value += step) {
    parts.push(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
    parts.push(text("end", { x: box.left - 6, y: y(value) + 4 }, value.toFixed(step < 1 ? 1 : 0)));
  }
  const labels = Math.max(1, Math.floor((box.right - box.left) / 40));
  const every = Math.max(1, Math.ceil((last - first) / labels));
  for (let n = first; n <= last; n += every) parts.push(text("middle", { x: x(n), y: box.bottom + 18 }, String(n)));
  return parts;
}

function servedMark(releases, { box, x }) {
  const served = releases.find((release) => release.served);
  if (!served) return [];
  const at = x(served.number);
  const anchor = at > box.right - 30 ? "end" : at < box.left + 30 ? "start" : "middle";
  const line = svg("line", { class: "served", x1: at, x2: at, y1: box.top - 6, y2: box.bottom });
  return [line, svg("text", { class: "served", x: at, y: box.top - 11, "text-anchor": anchor }, "served")];
}

function series(slice, colour, releases, { x, y }) {
  const measured = releases.filter(({ figures }) => slice in figures);
  const places = measured.map(({ number, figures }) => [x(number), y(100 * figures[slice])]);
  const dots = measured.map(({ number, figures, decision, served }, index) => {
    const [cx, cy] = places[index];
    const became = [decision || "undecided", ...(served ? ["served"] : [])].join(", ");
    const told = `Release ${number}, ${slice}: ${percent(figures[slice])} % (${became})`;
    // A release whose last decision is a rollback or a pin was promoted before that.
    const kind = decision === "" || decision === "kept" ? "kept" : "promoted";
    return svg("circle", { class: `dot ${colour} ${kind}`, cx, cy, r: served ? 5.5 : 4 }, svg("title", {}, told));
  });
  return [svg("polyline", { class: `line ${colour}`, points: places.join(" ") }), ...dots];
}

function legend(slices) {
  const entry = (text, mark) => el("li", {}, svg("svg", { width: 26, height: 12, "aria-hidden": "true" }, mark), text);
  const line = (index) => svg("line", { class: `line s${1 + (index % 4)}`, x1: 1, x2: 25, y1: 6, y2: 6 });
  const dot = (kind) => svg("circle", { class: `dot plain ${kind}`, cx: 13, cy: 6, r: 4 });
  const kinds = ["promoted", "kept"].map((kind) => entry(kind, dot(kind)));
  return [...slices.map((slice, index) => entry(slice, line(index))), ...kinds];
}

// --- keys, and the start

function onKey(event) {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !event.target.matches("input, textarea")) {
    event.preventDefault();
    queryField.focus();
    queryField.select();
  } else if (event.key === "Escape" && labelForm.contains(event.target)) {
    showLabelForm(false);
    $("#none").focus();
  } else if (event.key === "Escape") {
    clear();
  }
}

$("#search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepInHash();
  search();
});
$("#skip").addEventListener("click", (event) => {
  // Following the link would replace the hash that keeps the query.
  event.preventDefault();
  $("#main").focus();
});
$("#none").addEventListener("click", () => showLabelForm(labelForm.hidden));
labelForm.addEventListener("submit", sendLabel);
keyForm.addEventListener("submit", useKey);
document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", searchFromHash);
new ResizeObserver(() => state.releases.length && drawChart()).observe($("#chart"));
queryField.focus();
searchFromHash();
poll();
