// Inworld's and OpenAI's own packages in a page. Each function tells what it saw, in what JSON can say.
import OpenAI from 'openai';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { ApiError, createClient } from '@inworld/tts';

const common = { timeout: 20_000, maxRetries: 0 };

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function refusal(act) {
  try {
    await act();
  } catch (error) {
    const { name, code, status, message, details } = error;
    return { name, code, status, message, reason: (details?.details ?? details?.error?.details)?.[0]?.reason };
  }
  return null;
}

async function drain(stream) {
  for await (const _ of stream);
}

function join(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
  return whole;
}

export async function inworld({ baseUrl, token, reader, stranger, spoken }) {
  const tts = createClient({ ...common, baseUrl, token });
  const whole = await tts.generate(spoken);
  const pieces = [];
  const arrivals = [];
  for await (const piece of tts.stream(spoken)) {
    pieces.push(piece);
    arrivals.push(performance.now() / 1000);
  }
  const voices = await tts.listVoices();
  const denied = createClient({ ...common, baseUrl, apiKey: reader, dangerouslyAllowBrowser: true });
  const unknown = createClient({ ...common, baseUrl, token: stranger });
  return {
    whole: await sha256(whole),
    streamed: await sha256(join(pieces)),
    arrivals,
    voices: voices.map((voice) => voice.voiceId),
    denied: await refusal(() => denied.generate(spoken)),
    deniedStream: await refusal(() => drain(denied.stream(spoken))),
    unknown: await refusal(() => unknown.listVoices()),
    isApiError: await denied.generate(spoken).catch((error) => error instanceof ApiError),
  };
}

const openai = (baseURL, apiKey) => new OpenAI({ ...common, baseURL, apiKey, dangerouslyAllowBrowser: true });

export async function chat({ baseURL, token, reader, model, messages, speech }) {
  const client = openai(baseURL, token);
  const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
  const deltas = [];
  const arrivals = [];
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    deltas.push(chunk.choices[0]?.delta?.content ?? '');
    arrivals.push(performance.now() / 1000);
  }
  const answer = await client.audio.speech.create(speech);
  const sound = new Uint8Array(await answer.arrayBuffer());
  return {
    said: data.choices[0].message.content,
    streamed: deltas.join(''),
    arrivals,
    headers: [...response.headers.keys()],
    sound: await sha256(sound),
    denied: await refusal(() => openai(baseURL, reader).chat.completions.create({ model, messages })),
    nobody: await refusal(() => openai(baseURL, 'nobody-knows-this-token').chat.completions.create({ model, messages })),
  };
}

export async function realtime({ url, token }) {
  const client = openai(url.replace('ws', 'http'), token);
  const socket = new OpenAIRealtimeWebSocket({ model: 'any', buildRealtimeURL: () => url }, client);
  const seen = [];
  const first = new Promise((resolve, reject) => {
    socket.on('event', ({ type }) => { seen.push(type); resolve(); });
    socket.on('error', reject);
  });
  await first;
  const { protocol } = socket.socket;
  const closed = new Promise((resolve) => { socket.socket.addEventListener('close', ({ code }) => resolve(code)); });
  socket.close();
  return { seen, protocol, closed: await closed };
}
