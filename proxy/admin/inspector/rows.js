// The requests that the page keeps, newest last, bounded; which match a filter; what they say by operation. No elements.

const KEEP = 2000; // rows: four seconds of five hundred a second, hours of a developer's
const SLACK = 500; // cut off in one go, not one by one

/** Stands for the operation of a request that had none; one word, so that it can be filtered for. */
export const NO_OPERATION = "no-operation";

/** What a filter is matched against; made once per row, when it is first asked. */
function haystack(row) {
  row.text ??= [row.operation ?? NO_OPERATION, row.caller, row.status, row.code, row.would_refuse, row.method, row.path,
                row.ending, row.credential, row.upstream].join(" ").toLowerCase();
  return row.text;
}

const well = (row) => row.ending === "answered" && row.status < 400 && row.would_refuse === null;

/** Says whether a row has every word, none of those after a `-`, and with `troubles` whether it did not end well. */
export function matcher(text, troubles) {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== "" && word !== "-");
  const wanted = words.filter((word) => !word.startsWith("-"));
  const unwanted = words.filter((word) => word.startsWith("-")).map((word) => word.slice(1));
  return (row) => !(troubles && well(row)) && wanted.every((word) => haystack(row).includes(word))
    && !unwanted.some((word) => haystack(row).includes(word));
}

/** The value below which this share of the sorted values lies, or null where there is none. */
function quantile(sorted, share) {
  return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export class Rows {
  #kept = [];
  #frozen = null;
  #last = 0; // the numbers begin at one
  #since = 0;
  /** How many there were besides: of many a second the proxy keeps only some of those that went well. */
  skipped = 0;

  /** Takes rows, oldest first; what is already known, as after a reconnection, is left out. */
  add(rows, skipped) {
    this.skipped += skipped;
    for (const row of rows) {
      if (row.id <= this.#last) continue;
      this.#last = row.id;
      this.#kept.push(row);
    }
    if (this.#kept.length > KEEP + SLACK) this.#kept.splice(0, this.#kept.length - KEEP);
  }

  /** Forgets all: another process counts from the beginning. */
  clear() {
    this.#kept = [];
    this.#last = this.#since = this.skipped = 0;
    if (this.held) this.#frozen = [];
  }

  /** While held, `rows` are those of this moment, whatever comes. */
  hold(held) {
    if (held === (this.#frozen !== null)) return;
    this.#frozen = held ? this.#kept.slice() : null;
    this.#since = this.#last;
  }

  get held() {
    return this.#frozen !== null;
  }

  /** How many came since they are held. */
  get newer() {
    return this.held ? this.#last - this.#since : 0;
  }

  get rows() {
    return this.#frozen ?? this.#kept;
  }

  /** The newest that match, newest first, at most so many; and how many match in all. */
  matching(matches, most) {
    const found = [];
    let count = 0;
    for (let index = this.rows.length - 1; index >= 0; index -= 1) {
      const row = this.rows[index];
      if (!matches(row)) continue;
      count += 1;
      if (found.length < most) found.push(row);
    }
    return { found, count };
  }

  /** Each operation with `count`, `refused` (or failed), `p50` and `p99` of the first byte; most requests first. */
  byOperation() {
    const groups = new Map();
    for (const row of this.rows) {
      const name = row.operation ?? NO_OPERATION;
      let group = groups.get(name);
      if (group === undefined) groups.set(name, group = { name, count: 0, refused: 0, failed: 0, firsts: [] });
      group.count += 1;
      if (row.ending === "refused") group.refused += 1;
      else if (row.ending === "failed" || row.ending === "aborted") group.failed += 1;
      if (row.first_byte_ms !== null) group.firsts.push(row.first_byte_ms);
    }
    for (const group of groups.values()) {
      group.firsts.sort((one, other) => one - other);
      group.p50 = quantile(group.firsts, 0.5);
      group.p99 = quantile(group.firsts, 0.99);
    }
    return [...groups.values()].sort((one, other) => other.count - one.count || (one.name < other.name ? -1 : 1));
  }

  /** Seconds from the first to the last of them. */
  get seconds() {
    return this.rows.length === 0 ? 0 : this.rows.at(-1).time - this.rows[0].time;
  }
}
