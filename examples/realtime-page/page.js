// Realtime from a browser, through the proxy. A browser can set no header on a WebSocket, so the caller's token travels as
// a subprotocol; the proxy takes it out and puts the session token on.

const element = (id) => document.getElementById(id);
const RATE = 24000; // samples a second of the speech that comes back, two bytes each

let socket = null;
let answer = null; // the line that is being spoken
let bytes = 0;

/** Where the proxy is, and the token to show there: from the page's own backend, asked anew for each use. */
async function session() {
  const response = await fetch("session", { method: "POST" });
  if (!response.ok) throw new Error(`the page's backend answered ${response.status}`);
  return response.json();
}

function show(state, bad = false) {
  element("state").textContent = state;
  element("state").classList.toggle("bad", bad);
  element("send").disabled = socket === null || socket.readyState !== WebSocket.OPEN;
  element("connect").textContent = socket === null ? "Connect" : "Disconnect";
}

function line(who, text = "") {
  const item = document.createElement("li");
  item.className = who;
  item.append(text);
  element("transcript").append(item);
  return item;
}

const on = {
  "session.created": () => show("connected"),
  "response.created": () => { answer = line("assistant"); bytes = 0; },
  "response.output_audio_transcript.delta": (event) => answer.append(event.delta),
  "response.output_text.delta": (event) => answer.append(event.delta),
  "response.output_audio.delta": (event) => { bytes += Math.floor(event.delta.replace(/=+$/, "").length * 3 / 4); },
  "response.done": () => {
    const spoken = document.createElement("small");
    spoken.textContent = bytes ? `${(bytes / 2 / RATE).toFixed(1)} s of speech` : "text only";
    answer.append(spoken);
  },
  "error": (event) => line("assistant bad", event.error.message),
};

async function connect() {
  const { proxy, token } = await session();
  const url = new URL("/api/v1/realtime/session", proxy.replace(/^http/, "ws"));
  url.search = new URLSearchParams({ key: crypto.randomUUID(), protocol: "realtime" });
  const opened = socket = new WebSocket(url, [`openai-insecure-api-key.${token}`]);
  show("connecting");
  opened.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    const item = document.createElement("li");
    item.textContent = event.type;
    element("events").append(item);
    element("count").textContent = element("events").children.length;
    on[event.type]?.(event);
  };
  opened.onclose = ({ code }) => {
    if (socket === opened) socket = null;
    show(code === 1000 ? "closed" : `closed (${code})`, code !== 1000);
  };
}

element("connect").onclick = () => {
  if (socket !== null) socket.close(1000);
  else connect().catch((error) => show(error.message, true));
};

element("say").onsubmit = (submitted) => {
  submitted.preventDefault();
  const text = element("text").value.trim();
  if (!text || socket?.readyState !== WebSocket.OPEN) return;
  line("user", text);
  element("text").value = "";
  const content = [{ type: "input_text", text }];
  socket.send(JSON.stringify({ type: "conversation.item.create", item: { type: "message", role: "user", content } }));
  socket.send(JSON.stringify({ type: "response.create" }));
};

element("token").onclick = async () => {
  const issued = element("issued");
  issued.classList.remove("bad");
  try {
    const { proxy, token } = await session();
    const response = await fetch(new URL("/token", proxy), {
      method: "POST",
      headers: { "Authorization": `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ for: "realtime" }),
    });
    const told = await response.json();
    if (!response.ok) throw new Error(told.error?.message ?? `the proxy answered ${response.status}`);
    // `told.token` goes to whatever talks to the API directly; here only what is known about it is shown.
    issued.textContent = `For ${told.for}, until ${new Date(told.expiresAt).toLocaleString()}.`;
    issued.dataset.expires = told.expiresAt;
  } catch (error) {
    issued.textContent = error.message;
    issued.classList.add("bad");
  }
};
