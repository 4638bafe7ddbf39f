// The list of requests and the overview by operation: what is shown of the rows, which is active, when the list stands
// still. What a row means is said in `words.js`, what is kept of them in `rows.js`.

import { byId, dress, make, say, Table } from "./nodes.js";
import { matcher, NO_OPERATION, Rows } from "./rows.js";
import { clock, fate, milliseconds, number, requests, span } from "./words.js";

const MOST = 150; // rows in the page while it stands still; who wants another one filters
const STEP = 15; // rows more with each frame then
const SPARE = 3; // rows below the lower edge while it runs: whoever scrolls finds that there are more
const AIMING = 1500; // ms: while the pointer has moved over the list, no row may slip away from under it
const BETWEEN = 150; // ms from one drawing of the list to the next at least

/** One row of the list, to be written over again and again: that costs a third of inserting and removing rows. */
class Line {
  constructor() {
    this.time = make("td", { class: "time", role: "gridcell" });
    this.mark = make("i", { "aria-hidden": "true" });
    this.status = make("b");
    this.word = make("span", { class: "word" });
    this.operation = make("b");
    this.path = make("span", { class: "path" });
    this.caller = make("td", { class: "caller", role: "gridcell" });
    this.first = make("td", { class: "first number", role: "gridcell" });
    this.took = make("td", { class: "took number", role: "gridcell" });
    this.node = make("tr", { role: "row" }, this.time,
                     make("td", { class: "status", role: "gridcell" }, this.mark, this.status, " ", this.word),
                     make("td", { class: "what", role: "gridcell" }, this.operation, " ", this.path),
                     this.caller, this.first, this.took);
    this.row = null;
    this.selected = null;
  }

  write(row, selected) {
    if (this.selected !== selected) this.node.setAttribute("aria-selected", String(this.selected = selected));
    if (this.row === row) return;
    this.row = row;
    this.node.id = `row-${row.id}`;
    const { mark, word } = fate(row);
    say(this.time, clock(row.time));
    dress(this.mark, `mark ${mark}`);
    say(this.status, row.status === 0 ? "–" : String(row.status));
    say(this.word, row.code ?? (row.would_refuse === null ? word : `audit: ${row.would_refuse}`));
    say(this.operation, row.operation ?? NO_OPERATION);
    say(this.path, `${row.method} ${row.path}`);
    say(this.caller, row.caller ?? "–");
    say(this.first, milliseconds(row.first_byte_ms));
    say(this.took, milliseconds(row.duration_ms));
  }
}

export class Traffic {
  #lines = []; // in the table, from its top
  #shown = [];
  #room = 20; // rows that fit in
  #matches = matcher("", false);
  #held = { paused: false, open: false, moved: false, aiming: false };
  #aim = null;
  #drawn = 0;
  #active = null;

  /** `changed()` asks to be drawn; `opened(row)` wants its details. */
  constructor(changed, opened) {
    this.rows = new Rows();
    this.changed = changed;
    this.opened = opened;
    this.grid = byId("rows");
    this.body = this.grid.tBodies[0];
    this.scroller = byId("list");
    this.overview = new Table("Requests kept in this page, by operation", [
      { head: "Operation", cell: (one) => one.name, press: (one) => this.filter(one.name), class: "name" },
      { head: "Requests", cell: (one) => number(one.count), class: "number" },
      { head: "Refused", cell: (one) => number(one.refused), class: "number" },
      { head: "Failed", cell: (one) => number(one.failed), class: "number" },
      { head: "First byte p50", cell: (one) => milliseconds(one.p50), class: "number" },
      { head: "p99", cell: (one) => milliseconds(one.p99), class: "number" },
    ]);
    byId("overview").querySelector(".scrolls").append(this.overview.node);
    byId("filter").addEventListener("input", () => this.#filter());
    byId("troubles").addEventListener("change", () => this.#filter());
    byId("release").addEventListener("click", () => this.release());
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(this.scroller);
    this.body.addEventListener("pointermove", () => this.#aiming(), { passive: true });
    this.body.addEventListener("click", (event) => this.#click(event));
  }

  /** Shows only what has these words, as if they had been typed. */
  filter(text) {
    byId("filter").value = text;
    this.#filter();
  }

  pause(paused) {
    this.#hold("paused", paused);
  }

  /** While details are open the list stands still. */
  opening(open) {
    this.#hold("open", open);
  }

  /** Lets the list run again, from the top, with no row active. */
  release() {
    this.#activate(null);
    this.scroller.scrollTop = 0;
    clearTimeout(this.#aim);
    this.#hold("aiming", false);
    this.#hold("moved", false);
  }

  /** Forgets all requests: another process counts from the beginning. */
  forget() {
    this.release();
    this.rows.clear();
  }

  /** Makes the next (1) or previous (-1) row the active one; with Infinity the last or first shown. */
  move(steps) {
    if (this.#shown.length === 0) return;
    const at = this.#shown.indexOf(this.#active);
    const next = at < 0 && Math.abs(steps) === 1 ? 0 : Math.min(this.#shown.length - 1, Math.max(0, at + steps));
    this.#hold("moved", true);
    while (this.#lines.length <= next) this.#lengthen();
    this.#activate(this.#shown[next]);
    this.#lines[next].node.scrollIntoView({ block: "nearest" });
    if (this.#held.open) this.opened(this.#active);
  }

  open() {
    if (this.#active !== null) this.opened(this.#active);
  }

  drawOverview() {
    this.overview.fill(this.rows.byOperation());
    const { length } = this.rows.rows;
    say(byId("window"), length === 0 ? "" : `of the last ${requests(length)}, ${span(this.rows.seconds)}`);
  }

  /** After how many milliseconds it may be drawn again. */
  wait(at) {
    return Math.max(0, this.#drawn + BETWEEN - at);
  }

  /** Draws the list: as much of it as can be seen, more and more of it while it stands still. */
  draw(at) {
    this.#drawn = at;
    const { found, count } = this.rows.matching(this.#matches, MOST);
    this.#shown = found;
    const many = Math.min(found.length, Math.max(this.#room + SPARE, this.rows.held ? this.#lines.length : 0));
    while (this.#lines.length > many) this.#lines.pop().node.remove();
    while (this.#lines.length < many) this.#lengthen();
    this.#lines.forEach((line, index) => line.write(found[index], found[index] === this.#active));
    if (this.rows.held && many < found.length) requestAnimationFrame(() => this.#grow());
    const { newer, skipped } = this.rows;
    const why = this.#held.paused ? "paused" : "held";
    say(byId("shown"), requests(count)
        + (skipped > 0 ? `, ${number(skipped)} more not shown` : "")
        + (this.rows.held ? `, ${why}${newer > 0 ? `: ${number(newer)} newer` : ""}` : ""));
    byId("release").hidden = !this.rows.held || this.#held.paused;
    byId("nothing").hidden = found.length > 0;
    this.grid.hidden = found.length === 0;
  }

  /** Puts one more row into the table. */
  #lengthen() {
    const line = new Line();
    const row = this.#shown[this.#lines.length];
    line.write(row, row === this.#active);
    this.#lines.push(line);
    this.body.append(line.node);
  }

  /** Adds some of the rows below, and with the next frame some more, for as long as the list stands still. */
  #grow() {
    if (!this.rows.held) return;
    const many = Math.min(this.#shown.length, this.#lines.length + STEP);
    while (this.#lines.length < many) this.#lengthen();
    if (many < this.#shown.length) requestAnimationFrame(() => this.#grow());
  }

  #measure() {
    const height = this.body.rows[0]?.offsetHeight || 30;
    this.#room = Math.ceil(this.scroller.clientHeight / height);
    this.changed();
  }

  #filter() {
    this.#matches = matcher(byId("filter").value, byId("troubles").checked);
    this.changed();
  }

  #hold(why, held) {
    if (this.#held[why] === held) return;
    this.#held[why] = held;
    this.rows.hold(Object.values(this.#held).includes(true));
    this.changed();
  }

  #scrolled() {
    this.#hold("moved", this.scroller.scrollTop > 0 || this.#active !== null);
  }

  #aiming() {
    clearTimeout(this.#aim);
    this.#aim = setTimeout(() => this.#hold("aiming", false), AIMING);
    this.#hold("aiming", true);
  }

  #activate(row) {
    this.#active = row;
    for (const line of this.#lines) line.write(line.row, line.row === row);
    if (row === null) this.grid.removeAttribute("aria-activedescendant");
    else this.grid.setAttribute("aria-activedescendant", `row-${row.id}`);
  }

  #click(event) {
    const node = event.target.closest("tr");
    const line = this.#lines.find((each) => each.node === node);
    if (line === undefined || String(getSelection()) !== "") return;
    this.#activate(line.row);
    this.open();
  }
}
