// The tables of the state: tunnels, credentials, callers, refusals. Their columns, and what to do when one is empty.

import { byId, make, say, Table, tell } from "./nodes.js";
import { ago, bytes, number, span } from "./words.js";

const NAMED = 3; // operations and callers of a reason

/** How long a credential is valid: seconds by the proxy's own clock. */
function expiry(one, { now }) {
  if (one.expires_at === null) return "does not expire";
  const left = one.expires_at - now;
  return left > 0 ? `in ${span(left)}` : `${span(-left)} ago`;
}

function health(one) {
  if (one.fault !== null || one.state !== "ready") return "failed";
  return one.refused_upstream ? "unwell" : "answered";
}

const counted = (value) => (value === null ? "–" : number(value));

/** The refusals by reason, the most frequent first. `who` are the operations and callers, with how often. */
function byReason(refusals) {
  const reasons = new Map();
  for (const one of refusals) {
    const key = `${one.code} ${one.audit}`;
    let reason = reasons.get(key);
    if (reason === undefined) reasons.set(key, reason = { ...one, count: 0, who: [] });
    reason.count += one.count;
    reason.last = Math.max(reason.last, one.last);
    reason.who.push(one);
  }
  for (const reason of reasons.values()) reason.who.sort((one, other) => other.count - one.count);
  return [...reasons.values()].sort((one, other) => other.count - one.count || other.last - one.last);
}

function whoWas({ who }) {
  const told = who.slice(0, NAMED).map(({ operation, caller, count }) =>
    `${operation ?? "no operation"} by ${caller ?? "nobody known"}${who.length > 1 ? ` ×${number(count)}` : ""}`);
  return told.join(", ") + (who.length > NAMED ? `, and ${who.length - NAMED} more` : "");
}

/** For each: the part of the state, how many there are, the columns, what an empty one says. `show(text)` filters. */
const tables = (show) => ({
  tunnels: {
    caption: "Open tunnels, the oldest first",
    rows: (state) => [...state.tunnels].sort((one, other) => other.age_s - one.age_s),
    total: (state) => state.tunnels_total,
    columns: [
      { head: "Operation", cell: (one) => one.operation ?? "–", class: "name" },
      { head: "Caller", cell: (one) => one.caller ?? "–" },
      { head: "Peer", cell: (one) => one.peer ?? "–", class: "code" },
      { head: "Age", cell: (one) => span(one.age_s), class: "number" },
      { head: "Bytes in", cell: (one) => bytes(one.bytes_in), class: "number" },
      { head: "Bytes out", cell: (one) => bytes(one.bytes_out), class: "number" },
    ],
    empty: "No WebSocket is open. A tunnel stands here from its handshake to its end; then it is a row in Traffic.",
  },
  credentials: {
    caption: "Credentials",
    rows: (state) => state.credentials,
    total: (state) => state.credentials_total,
    columns: [
      { head: "Name", cell: (one) => one.name, class: "name" },
      { head: "State", cell: (one) => one.fault ?? one.state, mark: health, write: tell },
      { head: "Kind", cell: (one) => [one.kind, one.type].filter(Boolean).join(", ") },
      { head: "Permissions", cell: (one) => one.permissions },
      { head: "Source", cell: (one) => one.source ?? "–", class: "code" },
      { head: "Expires", cell: expiry, class: "short" },
      { head: "Last refresh", cell: (one, { now }) => ago(one.refreshed_at, now), class: "short" },
      { head: "Refused upstream", cell: (one) => (one.refused_upstream ? "yes" : "no") },
    ],
    empty: "No credential is configured: name one under `credentials` in the configuration.",
  },
  callers: {
    caption: "Callers",
    rows: (state) => state.callers,
    total: (state) => state.callers_total,
    columns: [
      { head: "Caller", cell: (one) => one.name, class: "name", press: (one) => show(one.name) },
      { head: "In flight", cell: (one) => counted(one.in_flight), class: "number" },
      { head: "Waiting", cell: (one) => counted(one.waiting), class: "number" },
      { head: "Limits", cell: (one) => one.limits },
      { head: "Left", cell: (one) => one.left },
    ],
    empty: "No caller is configured: whoever reaches the proxy may use it. Declare them under `callers`.",
  },
  refusals: {
    caption: "Refusals by reason, the most frequent first",
    rows: (state) => byReason(state.refusals),
    columns: [
      { head: "Reason", cell: (one) => (one.audit ? `${one.code} (audit: let through)` : one.code), class: "name",
        press: (one) => show(one.code) },
      { head: "Count", cell: (one) => number(one.count), class: "number" },
      { head: "What to change", cell: (one) => one.what_to_change, class: "advice", write: tell },
      { head: "Last", cell: (one, { now }) => ago(one.last, now), class: "short" },
      { head: "Operation and caller", cell: whoWas },
    ],
    empty: "Nothing was refused since the start. What is will stand here, by reason, with what to change.",
  },
});

export class Tables {
  /** `show(text)` shows the traffic that has these words. */
  constructor(show) {
    this.tables = Object.entries(tables(show)).map(([name, told]) => {
      const table = new Table(told.caption, told.columns);
      const empty = make("p", { class: "empty" });
      tell(empty, told.empty);
      byId(name).append(table.node, empty);
      return { told, table, empty, place: byId(name), count: byId(`tab-${name}`).querySelector(".count") };
    });
  }

  /** Writes what is to be seen; of the others only their number. */
  draw(state) {
    for (const { told, table, empty, place, count } of this.tables) {
      const rows = told.rows(state), total = told.total?.(state) ?? rows.length;
      say(count, number(total));
      if (place.hidden) continue;
      table.fill(rows, state, total);
      empty.hidden = rows.length > 0;
    }
  }
}
