// How figures are said: durations, sizes, moments, and what became of a request. Values in, texts out; no page.

const MINUTE = 60, HOUR = 3600, DAY = 86_400;

/** Milliseconds, with as many digits as matter: `0.4 ms`, `38 ms`, `1.25 s`, `3 m 20 s`. */
export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.05) return "< 0.1 ms";
  if (value < 9.95) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  if (value < 59_950) return `${(value / 1000).toFixed(value < 9_950 ? 2 : 1)} s`;
  return span(value / 1000);
}

/** Seconds in the two largest units: `12 s`, `3 m 20 s`, `5 h 2 m`, `4 d 1 h`. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} m ${whole % MINUTE} s`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)} h ${Math.floor((whole % HOUR) / MINUTE)} m`;
  return `${Math.floor(whole / DAY)} d ${Math.floor((whole % DAY) / HOUR)} h`;
}

/** `4 s ago`, or nothing said where there is no moment. Both in Unix seconds, both by the proxy's clock. */
export function ago(moment, now) {
  return moment === null || moment === undefined ? "–" : `${span(now - moment)} ago`;
}

/** Bytes in steps of 1024. */
export function bytes(count) {
  if (count < 1024) return `${count} B`;
  let value = count, unit = 0;
  while (value >= 999.5 && unit < 4) { value /= 1024; unit += 1; }
  return `${value.toFixed(value < 9.95 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

const whole = new Intl.NumberFormat("en");
export const number = (value) => whole.format(value);
export const requests = (count) => `${number(count)} ${count === 1 ? "request" : "requests"}`;

const clocks = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit",
                                                  fractionalSecondDigits: 1, hourCycle: "h23" });

/** The time of day where the page is looked at, from Unix seconds. */
export const clock = (moment) => clocks.format(moment * 1000);

/** The same with its date, in UTC, as the log has it. */
export const moment = (unix) => new Date(unix * 1000).toISOString().replace("T", " ");

const ENDINGS = { refused: "refused", failed: "failed", caller_gone: "caller left", aborted: "cut off" };

/** What became of a request: `mark` names its shape and colour, `word` says it without either. */
export function fate(row) {
  const word = ENDINGS[row.ending];
  if (word !== undefined) return { mark: row.ending, word };
  if (row.would_refuse !== null) return { mark: "audited", word: "in audit mode" };
  if (row.status >= 400) return { mark: "unwell", word: "by upstream" };
  return { mark: "answered", word: row.websocket ? "WebSocket" : "" };
}
