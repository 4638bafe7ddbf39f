// The details of one request: the decision in words, the explain command, the headers of both sides. They were masked
// where they come from; here they are only text.

import { byId, make, say, tell } from "./nodes.js";
import { bytes, fate, milliseconds, moment } from "./words.js";

const HEADS = {
  received: "Received from the caller",
  sent: "Sent to the upstream",
  answered: "Answered by the upstream",
  returned: "Returned to the caller",
};
const TOLD = 2000; // ms for which the button says that it copied

/** The facts of a row, as pairs for people; those that there are not are left out. */
function facts(row) {
  const { word } = fate(row);
  return [
    ["Ended", [row.ending.replace("_", " "), row.code].filter(Boolean).join(": ") || word],
    ["In audit mode", row.would_refuse === null ? null : `enforce would refuse it: ${row.would_refuse}`],
    ["Operation", row.operation ?? "none of the catalogue"],
    ["Caller", row.caller ?? "nobody that is known"],
    ["Upstream", row.upstream],
    ["Credential", row.credential],
    ["Time", moment(row.time)],
    ["First byte", row.first_byte_ms === null ? null : milliseconds(row.first_byte_ms)],
    ["Duration", milliseconds(row.duration_ms)],
    [row.websocket ? "WebSocket" : "Bytes", `${bytes(row.request_bytes)} in, ${bytes(row.response_bytes)} out`],
    ["Connection", row.upstream && (row.reused ? "from the pool" : "new") + (row.retried ? ", sent again" : "")],
    ["Request id", row.request_id],
    ["Inworld's id", row.inworld_request_id],
  ].filter(([, value]) => value !== null && value !== undefined);
}

/** Copies text. Without the clipboard's permission, or beyond loopback without TLS, by selecting it. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shown);
    return document.execCommand("copy");
  }
}

export class Detail {
  #asked = null;
  #command = null;

  /** `ask(id)` fetches what is known; `onClose()` is told when it has been closed. */
  constructor(ask, onClose) {
    this.ask = ask;
    this.onClose = onClose;
    this.place = byId("detail");
    this.title = make("h2", { id: "detail-title" });
    this.rest = make("div", { class: "rest" });
    const close = make("button", { type: "button", title: "Escape" }, "Close");
    close.addEventListener("click", () => this.close());
    this.place.append(make("div", { class: "bar head" }, this.title, close), this.rest);
  }

  get isOpen() {
    return !this.place.hidden;
  }

  /** Shows what the row says at once, and the rest when it has come. */
  async open(row) {
    const first = !this.isOpen;
    this.#asked = row.id;
    this.#command = null;
    this.place.hidden = false;
    const { mark, word } = fate(row);
    this.title.replaceChildren(make("i", { class: `mark ${mark}`, "aria-hidden": "true" }),
                               `${row.status || "no status"} ${word} `, make("span", {}, `${row.method} ${row.path}`));
    const list = make("dl", { class: "facts" }, ...facts(row).map(
      ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    const answer = make("div", { class: "answer", "aria-busy": "true" }, make("p", { class: "soft" }, "Asking …"));
    this.rest.replaceChildren(answer, make("section", {}, make("h3", {}, "What happened"), list));
    this.rest.scrollTop = 0;
    if (first) this.place.focus({ preventScroll: true });
    let parts;
    try {
      parts = this.#parts(await this.ask(row.id));
    } catch (error) {
      const fault = make("p", { class: "fault" });
      tell(fault, error.message);
      parts = [[fault], []];
    }
    if (this.#asked !== row.id) return; // another one was asked for meanwhile
    answer.replaceChildren(...parts[0]);
    answer.removeAttribute("aria-busy");
    this.rest.append(...parts[1]);
  }

  close() {
    if (!this.isOpen) return;
    this.place.hidden = true;
    this.#asked = this.#command = null;
    this.onClose();
  }

  /** Copies the explain command, if there is one; its button says so. */
  async copy() {
    if (this.#command === null) return;
    const { text, shown, button } = this.#command;
    const copied = await copy(text, shown);
    say(button, copied ? "Copied" : "Selected: copy it yourself");
    setTimeout(() => say(button, "Copy"), TOLD);
  }

  /** What stands above the facts, and what stands below. */
  #parts({ decision, explain, lines, headers }) {
    const said = make("p", { class: "decision" });
    tell(said, decision);
    const above = [make("section", {}, make("h3", {}, "Decision"), said)];
    if (explain) above.push(this.#explain(explain));
    const below = Object.entries(HEADS).map(([name, title]) => this.#head(title, lines[name], headers[name]));
    return [above, below];
  }

  #explain(text) {
    const shown = make("code", {}, text);
    const button = make("button", { type: "button", title: "c" }, "Copy");
    button.addEventListener("click", () => this.copy());
    this.#command = { text, shown, button };
    return make("section", {}, make("div", { class: "bar" }, make("h3", {}, "The same, offline"), button),
                make("pre", { tabindex: "0", "aria-label": "explain command" }, shown));
  }

  #head(title, line, fields) {
    if (fields === null) {
      return make("details", { class: "heads" }, make("summary", {}, title, make("span", { class: "soft" }, ": none")),
                  make("p", { class: "soft" }, "There was no such head, or it was too large to be kept."));
    }
    const row = ([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value));
    const heads = make("tr", {}, make("th", { scope: "col" }, "Name"), make("th", { scope: "col" }, "Value"));
    return make("details", { class: "heads", open: "" },
                make("summary", {}, title, make("span", { class: "soft" }, ` (${fields.length})`)),
                make("p", { class: "first-line" }, line ?? ""),
                make("table", { class: "fields" }, make("thead", { class: "unseen" }, heads),
                     make("tbody", {}, ...fields.map(row))));
  }
}
