// Where the page's data comes from: the stream of events, its token, what happens when it breaks. Not what it means.

const AT = new URL("/inspector/", location.href);
const SILENCE = 10_000; // ms. The state comes every second: a stream that is silent for so long is gone.
const FIRST_WAIT = 1; // s before the second try; doubled from one to the next
const LONGEST_WAIT = 15;

/** Events as (name, value) out of chunks of text/event-stream, as much of it as the proxy sends. */
export class EventReader {
  #rest = "";
  #name = "";
  #data = [];

  *read(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) yield [this.#name, JSON.parse(this.#data.join("\n"))];
        this.#name = "";
        this.#data = [];
      } else if (line.startsWith("event: ")) this.#name = line.slice(7);
      else if (line.startsWith("data: ")) this.#data.push(line.slice(6));
    }
  }
}

/** A refusal of the proxy's, in its own words where it has some. */
async function refusal(response) {
  if (response.status === 404 && !response.headers.get("Content-Type")?.includes("json")) {
    return "The inspector is switched off (`inspector.enabled` in the configuration).";
  }
  const told = await response.json().catch(() => null);
  const message = told?.message ?? told?.error?.message ?? told?.detail;
  return typeof message === "string" ? message : `The proxy answered ${response.status}.`;
}

/**
 * Follows the events for as long as the page lives.
 *
 * `onEvent(name, value)`; `onLink({state, why, seconds})` with state `connecting`, `live`, `lost` (the next try in so
 * many seconds) or `token` (one is wanted: `use()` gives it).
 */
export class Feed {
  #token = null;
  #go = () => {};

  constructor(onEvent, onLink) {
    this.onEvent = onEvent;
    this.onLink = onLink;
  }

  /** The admin token, from a person. It is kept in this object and nowhere else. */
  use(token) {
    this.#token = token;
    this.#go();
  }

  /** Does not wait for the next try. */
  retry() {
    this.#go();
  }

  /** What is known about one request. Throws an error whose message is for people. */
  async request(id) {
    const response = await fetch(new URL(`requests/${id}`, AT), { headers: this.#headers(), cache: "no-store" })
      .catch(() => { throw new Error("The proxy does not answer."); });
    if (!response.ok) throw new Error(await refusal(response));
    return response.json();
  }

  async run() {
    let wait = FIRST_WAIT;
    for (;;) {
      this.onLink({ state: "connecting" });
      const { state, why, heard } = await this.#follow();
      if (state === "token") {
        this.#token = null;
        this.onLink({ state, why });
        await new Promise((go) => { this.#go = go; });
        continue;
      }
      if (heard) wait = FIRST_WAIT;
      await this.#wait(wait, why);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
  }

  #headers() {
    return this.#token === null ? {} : { Authorization: `Bearer ${this.#token}` };
  }

  async #wait(seconds, why) {
    let woken = false;
    for (let left = seconds; left > 0 && !woken; left -= 1) {
      this.onLink({ state: "lost", why, seconds: left });
      await new Promise((done) => {
        const timer = setTimeout(done, 1000);
        this.#go = () => { woken = true; clearTimeout(timer); done(); };
      });
    }
  }

  /** One connection, until it ends: why it did, and whether it had told anything. */
  async #follow() {
    const abort = new AbortController();
    let heard = false;
    let silence = setTimeout(() => abort.abort(), SILENCE);
    try {
      const response = await fetch(new URL("events", AT),
                                   { headers: this.#headers(), cache: "no-store", signal: abort.signal });
      if (response.status === 401) {
        const why = this.#token === null ? "" : "That is not the token whose digest is `admin_token`.";
        return { state: "token", why };
      }
      if (!response.ok) return { state: "lost", why: await refusal(response), heard };
      const events = new EventReader(), decoder = new TextDecoder(), reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return { state: "lost", why: "The proxy ended the connection.", heard };
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE);
        for (const [name, told] of events.read(decoder.decode(value, { stream: true }))) {
          if (!heard) this.onLink({ state: "live" });
          heard = true;
          this.onEvent(name, told);
        }
      }
    } catch {
      const why = abort.signal.aborted ? "The proxy has said nothing for ten seconds." : heard
        ? "The connection to the proxy broke." : "The proxy does not answer.";
      return { state: "lost", why, heard };
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }
}
