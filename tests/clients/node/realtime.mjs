// openai's realtime client for Node: a conversation, and the errors of a wrong address and of a caller without the grant.
// Prints one line of JSON.
import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

const { https, wss, token, reader, says } = JSON.parse(process.argv[2]);
const session = () => `${wss}/api/v1/realtime/session?key=node&protocol=realtime`;

function connect(apiKey, options = {}) {
  const client = new OpenAI({ baseURL: `${https}/v1`, apiKey, maxRetries: 0, timeout: 20_000 });
  return new OpenAIRealtimeWS({ model: 'any', ...options }, client);
}

async function conversation() {
  const realtime = connect(token, { buildRealtimeURL: session });
  const deltas = [];
  const done = new Promise((resolve, reject) => {
    realtime.on('error', reject);
    realtime.on('session.created', () => {
      realtime.send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['text'] } });
      const item = { type: 'message', role: 'user', content: [{ type: 'input_text', text: says }] };
      realtime.send({ type: 'conversation.item.create', item });
      realtime.send({ type: 'response.create' });
    });
    realtime.on('response.output_text.delta', ({ delta }) => deltas.push(delta));
    realtime.on('response.done', ({ response }) => resolve(response.output[0].content[0].text));
  });
  const said = await done;
  const closed = new Promise((resolve) => realtime.socket.on('close', resolve));
  realtime.close();
  return { said, deltas, closed: await closed };
}

const failure = (realtime) => new Promise((resolve) => realtime.on('error', ({ message }) => resolve(message)));

console.log(JSON.stringify({
  ...(await conversation()),
  appended: await failure(connect(token)),
  denied: await failure(connect(reader, { buildRealtimeURL: session })),
}));
process.exit();
