// @inworld/tts: speech whole and streamed, voices, and the error of a caller without the grant. Prints one line of JSON.
import { createHash } from 'node:crypto';
import { ApiError, createClient } from '@inworld/tts';

const { baseUrl, token, kind, reader, stranger, spoken } = JSON.parse(process.argv[2]);
const common = { baseUrl, timeout: 20_000, maxRetries: 0 };
const tts = createClient({ ...common, [kind]: token });
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function refusal(act) {
  try {
    await act();
  } catch (error) {
    const { code, message, details } = error;
    return { isApiError: error instanceof ApiError, code, message, details };
  }
  return null;
}

async function drain(stream) {
  for await (const _ of stream);
}

const whole = await tts.generate(spoken);
const pieces = [];
const arrivals = [];
for await (const piece of tts.stream(spoken)) {
  pieces.push(piece);
  arrivals.push(performance.now() / 1000);
}
const voices = await tts.listVoices();

const denied = createClient({ ...common, apiKey: reader });
const unknown = createClient({ ...common, apiKey: stranger });
console.log(JSON.stringify({
  whole: sha256(whole),
  streamed: sha256(Buffer.concat(pieces)),
  arrivals,
  voices: voices.map((voice) => voice.voiceId),
  denied: await refusal(() => denied.generate(spoken)),
  deniedStream: await refusal(() => drain(denied.stream(spoken))),
  unknown: await refusal(() => unknown.listVoices()),
}));
