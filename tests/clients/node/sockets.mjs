// ws: speech over the socket, frames of every kind there and back, a browser's token, and refused handshakes.
// Prints one line of JSON.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import WebSocket from 'ws';

const { ws, gates, token, reader, create, text } = JSON.parse(process.argv[2]);
const TTS = '/tts/v1/voice:streamBidirectional';
const REALTIME = '/api/v1/realtime/session?key=node&protocol=realtime';
const signal = AbortSignal.timeout(20_000);
const authorization = (value) => ({ headers: { Authorization: `Bearer ${value}` }, handshakeTimeout: 20_000 });
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function open(path, protocols, options) {
  const socket = new WebSocket(ws + path, protocols, options);
  const queue = [];
  let wake = () => {};
  socket.on('message', (data, binary) => { queue.push(binary ? data : data.toString()); wake(); });
  socket.receive = async () => {
    while (!queue.length) await new Promise((resolve, reject) => { wake = resolve; signal.addEventListener('abort', reject); });
    return queue.shift();
  };
  await once(socket, 'open', { signal });
  return socket;
}

async function close(socket, code) {
  socket.close(code);
  const [told] = await once(socket, 'close', { signal });
  return told;
}

async function speech() {
  const socket = await open(TTS, [], authorization(token));
  const say = (message) => socket.send(JSON.stringify({ contextId: 'c', ...message }));
  say({ create });
  say({ send_text: { text, flush_context: {} } });
  const chunks = [];
  for (;;) {
    const { result } = JSON.parse(await socket.receive());
    if (result.flushCompleted) break;
    if (!result.audioChunk) continue;
    chunks.push(Buffer.from(result.audioChunk.audioContent, 'base64'));
    // The sandbox holds the next chunk back until this one is here.
    await fetch(gates, { method: 'POST', signal });
  }
  return { chunks: chunks.length, sha256: sha256(Buffer.concat(chunks)), closed: await close(socket, 1000) };
}

async function echo() {
  const socket = await open(REALTIME, [`bearer_${token}`], { handshakeTimeout: 20_000 });
  await socket.receive();
  const sent = ['', 'text', 'ü'.repeat(70_000), Buffer.alloc(0), Buffer.alloc(1_500_000, 'abc')];
  const same = [];
  for (const message of sent) {
    socket.send(message);
    const got = await socket.receive();
    same.push(Buffer.isBuffer(got) === Buffer.isBuffer(message) && Buffer.from(got).equals(Buffer.from(message)));
  }
  const { protocol } = socket;
  await close(socket, 4002);
  return { same, protocol };
}

async function refused(path, options) {
  const socket = new WebSocket(ws + path, options);
  socket.on('error', () => {});
  const [, response] = await once(socket, 'unexpected-response', { signal });
  let body = '';
  for await (const part of response) body += part;
  return { status: response.statusCode, proxyStatus: response.headers['proxy-status'], body: JSON.parse(body) };
}

console.log(JSON.stringify({
  speech: await speech(),
  echo: await echo(),
  denied: await refused(TTS, authorization(reader)),
  nobody: await refused(REALTIME, {}),
}));
process.exit();
