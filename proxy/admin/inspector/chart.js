// The small charts: a line, an area or bars over the last minutes, and the figure of now, or of the second under the
// pointer.

import { dress, make, say } from "./nodes.js";
import { milliseconds, number, span } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 48; // of the coordinates; the picture is stretched to its place
const LONGEST = 120; // s shown: as many as the proxy knows
const RECENT = 60; // s: an older percentile is not "now"

/**
 * Each chart: `lines` are arrays of the series with the way they are drawn, `least` the smallest scale. Each line has a
 * figure: `now(values)`, or of one second its value; `say` makes a text of either.
 */
const CHARTS = [
  { title: "Requests", unit: "a second", least: 5, say: number, lines: [
    { of: "requests", draws: "area", class: "one", now: (values) => values.at(-1) ?? 0 }] },
  { title: "First byte", unit: "", least: 10, say: milliseconds, lines: [
    { of: "p50_ms", draws: "line", class: "one", name: "p50", now: latest },
    { of: "p99_ms", draws: "line", class: "two", name: "p99", now: latest }] },
  { title: "Refused or failed", unit: "in the last minute", least: 2, say: number, lines: [
    { of: "refused", draws: "bars", class: "three",
      now: (values) => values.slice(-RECENT).reduce((sum, each) => sum + each, 0) }] },
  { title: "Tunnels", unit: "open", least: 2, say: number, lines: [
    { of: "tunnels", draws: "area", class: "four", now: (values) => values.at(-1) ?? 0 }] },
];

function latest(values) {
  for (let index = values.length - 1; index >= Math.max(0, values.length - RECENT); index -= 1) {
    if (values[index] !== null) return values[index];
  }
  return null;
}

/** The smallest of 1, 2, 5, 10, 20 … that is not below: a scale that does not change with every second. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((each) => each >= value);
}

const drawn = {
  /** With a gap where there is no value. */
  line(values, x, y) {
    let path = "", gap = true;
    values.forEach((value, index) => {
      if (value === null) { gap = true; return; }
      path += `${gap ? "M" : "L"}${x(index)} ${y(value)}`;
      gap = false;
    });
    return path;
  },
  /** What stands between two gaps, by round ends alone. */
  dots(values, x, y) {
    const alone = (index) => (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
    return values.map((value, index) => (value !== null && alone(index) ? `M${x(index)} ${y(value)}h0` : "")).join("");
  },
  area(values, x, y) {
    if (values.length === 0) return "";
    return `M${x(0)} ${HEIGHT}${values.map((value, index) => `L${x(index)} ${y(value)}`).join("")}V${HEIGHT}Z`;
  },
  bars(values, x, y) {
    return values.map((value, index) => (value > 0 ? `M${x(index)} ${HEIGHT}V${y(value)}` : "")).join("");
  },
};

const vector = (name, attributes) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

class Chart {
  constructor(told) {
    this.told = told;
    this.series = null;
    this.figures = told.lines.map((line) => make("b", { class: line.class }));
    this.unit = make("span", { class: "soft" });
    this.top = make("span", { class: "soft top" });
    this.paths = told.lines.flatMap(({ of, draws, class: hue }) => [draws, ...(draws === "line" ? ["dots"] : [])].map(
      (how) => ({ of, draw: drawn[how], node: vector("path", { class: `${how} ${hue}` }) })));
    this.cursor = vector("path", { class: "cursor" });
    this.picture = vector("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.picture.append(...this.paths.map(({ node }) => node), this.cursor);
    this.said = make("p", { class: "said" }, ...this.figures, this.unit);
    this.node = make("figure", {}, make("figcaption", {}, told.title, this.top), this.said, this.picture);
    this.pointed = null;
    this.picture.addEventListener("pointermove", (event) => this.#point(event));
    this.picture.addEventListener("pointerleave", () => { this.pointed = null; this.#say(); });
  }

  draw(series) {
    this.series = series;
    const { title, unit, lines, least, say: text } = this.told;
    const most = Math.max(least, ...lines.flatMap((line) => series[line.of].map((value) => value ?? 0)));
    const high = ceiling(most), missing = LONGEST - series.seconds.length;
    this.x = (index) => (((index + missing) / (LONGEST - 1)) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - (value / high) * (HEIGHT - 2)).toFixed(1);
    for (const { of, draw, node } of this.paths) node.setAttribute("d", draw(series[of], this.x, y));
    say(this.top, `to ${text(high)}`);
    const now = lines.map((line) => `${line.name ?? ""} ${text(line.now(series[line.of]))}`).join(", ");
    const past = span(series.seconds.length * series.step_s);
    this.picture.setAttribute("aria-label", `${title}, the last ${past}, to ${text(high)}. Now ${now} ${unit}`);
    this.#say();
  }

  #point(event) {
    const place = this.picture.getBoundingClientRect();
    this.pointed = (event.clientX - place.left) / place.width;
    this.#say();
  }

  /** The figure of now, or of the second under the pointer. */
  #say() {
    const { series, told, pointed } = this;
    if (series === null) return;
    const last = series.seconds.length - 1;
    const index = pointed === null ? -1 : Math.min(last, last + Math.round((pointed - 1) * (LONGEST - 1)));
    this.cursor.setAttribute("d", index < 0 ? "" : `M${this.x(index)} 0V${HEIGHT}`);
    told.lines.forEach(({ of, name, now }, place) => {
      const figure = told.say(index < 0 ? now(series[of]) : series[of][index]);
      say(this.figures[place], name === undefined ? figure : `${name} ${figure}`);
    });
    say(this.unit, index < 0 ? told.unit : `${span(series.seconds[last] - series.seconds[index])} ago`);
    dress(this.said, index < 0 ? "said" : "said past");
  }
}

/** All of them, and the series that they show: it comes once whole, then second by second. */
export class Charts {
  constructor(place) {
    this.charts = CHARTS.map((told) => new Chart(told));
    this.series = null;
    place.append(...this.charts.map((chart) => chart.node));
  }

  take(state) {
    if (state.series) this.series = state.series;
    else if (state.tail && this.series) this.#append(state.tail);
  }

  #append(tail) {
    const { series } = this;
    if (tail.second <= series.seconds.at(-1)) return;
    series.seconds.push(tail.second);
    for (const name of ["requests", "refused", "p50_ms", "p99_ms", "tunnels"]) series[name].push(tail[name]);
    if (series.seconds.length <= LONGEST) return;
    for (const values of Object.values(series)) if (Array.isArray(values)) values.shift();
  }

  draw() {
    if (this.series !== null) for (const chart of this.charts) chart.draw(this.series);
  }
}
