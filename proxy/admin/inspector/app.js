// The page as a whole: what the feed tells goes to the parts that show it, once per frame; tabs, keys and the pause.

import { Charts } from "./chart.js";
import { Detail } from "./detail.js";
import { Feed } from "./feed.js";
import { byId, dress, make, say, tell } from "./nodes.js";
import { Tables } from "./tables.js";
import { Traffic } from "./traffic.js";
import { number, span } from "./words.js";

const TABS = ["traffic", "tunnels", "credentials", "callers", "refusals"];
const CLOCKS = 5; // s by which the same start may be told differently: clocks are set
const NARROW = matchMedia("(max-width: 700px)");

let state = null;
let started = null; // when the proxy was, by its own account: another one has other requests under the same numbers
let joined = false; // what went by before somebody looked is not counted as not shown
let paused = false;
let link = { state: "connecting" };

const charts = new Charts(byId("charts"));
const tables = new Tables((text) => { traffic.filter(text); choose("traffic"); });
const traffic = new Traffic(() => ask("rows"), (row) => open(row));
const detail = new Detail((id) => feed.request(id), closed);
const feed = new Feed(take, (told) => { link = told; drawLink(); });

function take(name, told) {
  if (name === "requests") {
    traffic.rows.add(told.rows, joined ? 0 : told.skipped);
    joined = false;
    ask("rows");
  } else if (name === "state") {
    const began = told.now - told.uptime_s;
    if (state !== null && (told.uptime_s < state.uptime_s || Math.abs(began - started) > CLOCKS)) {
      detail.close();
      traffic.forget();
    }
    started = began;
    state = told;
    if (told.series !== undefined) joined = true;
    charts.take(told);
    if (!paused) ask("charts", "tables", "overview", "facts");
    drawLink();
  }
}

/** What is drawn, one part in a frame so that no frame is long; the list no more often than it says itself. */
const PARTS = {
  rows: (at) => { traffic.draw(at); drawNothing(); },
  charts: () => charts.draw(),
  tables: () => tables.draw(state),
  overview: () => traffic.drawOverview(),
  facts: () => { drawFacts(); drawNothing(); },
};
const due = new Set();
let waiting = false;

/** Draws these parts soon, however often that is asked until then. */
function ask(...parts) {
  for (const part of parts) due.add(part);
  if (waiting || due.size === 0) return;
  waiting = true;
  const wait = due.size === 1 && due.has("rows") ? traffic.wait(performance.now()) : 0;
  if (wait > 0) setTimeout(() => requestAnimationFrame(draw), wait);
  else requestAnimationFrame(draw);
}

function draw(at) {
  waiting = false;
  const part = [...due].find((each) => each !== "rows" || traffic.wait(at) === 0);
  if (part !== undefined) {
    due.delete(part);
    PARTS[part](at);
  }
  ask();
}

function drawFacts() {
  const { version, build, mode, uptime_s, in_flight, connections, waiting, listen } = state;
  const facts = [`version ${version}`, `${build} build`, `mode ${mode}`, `up ${span(uptime_s)}`, `on ${listen}`,
                 `in flight ${number(in_flight)}`, `connections ${number(connections)}`, `waiting ${number(waiting)}`];
  byId("facts").replaceChildren(...facts.flatMap((fact) => [make("span", {}, fact), " "]));
}

/** What an empty list says: how to fill it. */
function drawNothing() {
  if (state === null || byId("nothing").hidden) return;
  tell(byId("nothing"), traffic.rows.rows.length > 0 ? "No request matches. Escape in the filter clears it."
    : `Nothing yet. Try: \`${example(state.listen)}\` It will be refused, and stand here with what to change.`);
}

/** A command that asks the proxy for something, wherever it listens. */
function example(listen) {
  const unix = /^unix:(.+)$/.exec(listen);
  if (unix) return `curl -i --unix-socket ${unix[1]} http://localhost/`;
  // An address that means every one is reached by the name that got the page here.
  return `curl -i ${listen.replace(/^(https?:\/\/)(0\.0\.0\.0|\[::\])(?=:)/, `$1${location.hostname}`)}/`;
}

/** How it stands with the proxy: live, paused, draining, lost, or a token is wanted. */
function drawLink() {
  if (link.state === "connecting") return; // what was said before is still so
  const live = link.state === "live", lost = link.state === "lost", draining = live && state?.draining === true;
  const running = draining ? "draining" : paused ? "paused" : "live";
  const words = { live: running, lost: "disconnected", token: "token wanted" };
  say(byId("link"), words[link.state]);
  dress(byId("link"), `badge ${live ? running : link.state}`);
  const notice = lost ? `Disconnected. ${link.why} What is shown was so before.`
    : draining ? "The proxy is draining: it finishes what it has begun and takes nothing new." : "";
  tell(byId("notice-text"), notice);
  say(byId("next"), lost ? `Next try in ${link.seconds} s.` : "");
  byId("notice").hidden = notice === "";
  byId("again").hidden = !lost;
  const asked = link.state === "token";
  byId("ask").hidden = !asked;
  byId("content").hidden = asked;
  if (asked) {
    tell(byId("ask-fault"), link.why);
    byId("token").focus();
  }
}

function pause(wanted) {
  paused = wanted;
  byId("pause").setAttribute("aria-pressed", String(paused));
  say(byId("pause"), paused ? "Go on" : "Pause");
  traffic.pause(paused);
  drawLink();
  if (!paused && state !== null) ask("charts", "tables", "overview", "facts");
}

function choose(name) {
  for (const each of TABS) {
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    byId(each).hidden = each !== name;
  }
  if (state !== null) tables.draw(state);
  if (name !== "traffic") detail.close();
}

function open(row) {
  traffic.opening(true);
  detail.open(row);
  // Over a narrow page it covers everything: then nothing below it may take the focus.
  byId("body").inert = NARROW.matches;
  byId("top").inert = NARROW.matches;
}

function closed() {
  byId("body").inert = byId("top").inert = false;
  traffic.opening(false);
  byId("rows").focus({ preventScroll: true });
}

NARROW.addEventListener("change", () => {
  byId("body").inert = byId("top").inert = NARROW.matches && detail.isOpen;
});

const move = (steps) => () => !byId("traffic").hidden && traffic.move(steps);

/** What each key does; one that has nothing to do here (false) is left to the browser. */
const KEYS = {
  j: move(1),
  k: move(-1),
  ArrowDown: move(1),
  ArrowUp: move(-1),
  Home: move(-Infinity),
  End: move(Infinity),
  Enter: () => !byId("traffic").hidden && traffic.open(),
  c: () => detail.copy(),
  p: () => pause(!paused),
  " ": () => pause(!paused),
  "/": () => { choose("traffic"); detail.close(); byId("filter").select(); },
  "?": () => byId("keys").showModal(),
  Escape: () => (detail.isOpen ? detail.close() : traffic.release()),
};
TABS.forEach((name, index) => { KEYS[index + 1] = () => { choose(name); byId(`tab-${name}`).focus(); }; });

/** Keys that a focused control or region wants for itself. */
const OWN = {
  "input:not([type=checkbox])": () => true,
  "input[type=checkbox], button, summary": (key) => key === " " || key === "Enter",
  "[role=tab]": (key) => key === "Home" || key === "End",
  "#detail, #detail *, .scrolls, [role=tabpanel]": (key) => /^(Arrow|Home|End)/.test(key),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open || !byId("ask").hidden) return;
  const act = KEYS[event.key];
  if (act === undefined) return;
  const own = Object.entries(OWN).some(([selector, wants]) => event.target.matches(selector) && wants(event.key));
  if (!own && act() !== false) event.preventDefault();
});

byId("filter").addEventListener("keydown", (event) => {
  if (event.key === "Escape") traffic.filter("");
  if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") byId("rows").focus();
});

byId("tabs").addEventListener("keydown", (event) => {
  const at = TABS.findIndex((name) => byId(`tab-${name}`) === event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const name = TABS[(to + TABS.length) % TABS.length];
  choose(name);
  byId(`tab-${name}`).focus();
});

for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => choose(name));
byId("pause").addEventListener("click", () => pause(!paused));
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("again").addEventListener("click", () => feed.retry());
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  feed.use(token);
});

byId("overview").open = !NARROW.matches;
choose("traffic");
feed.run();
