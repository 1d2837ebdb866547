// A data directory as a busy week leaves it: a configuration of many keys, and records as the history keeps them.
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Records of one file of the history: a little less than it closes one at. */
const SEGMENT = 30_000;
const SPREAD_MS = 6 * 86_400_000;
const MODELS = [['gpt-4o', 'openai'], ['gpt-4o-mini', 'openai'], ['claude-sonnet-4', 'anthropic'], ['gemini-2.5-pro', 'gemini']];
const USERS = 500;

const keyOf = (n) => `key-${String(n).padStart(5, '0')}`;
const userOf = (key) => `user-${String(key % USERS).padStart(3, '0')}`;

/** A configuration with so many keys; nothing leaves this machine. */
export function configuration({ listen, admin, token, dataDir, keys }) {
  const digest = (n) => createHash('sha256').update(`sk-weir-seeded-${n}`).digest('hex');
  return {
    listen: [{ address: `127.0.0.1:${listen}` }],
    admin: { address: `127.0.0.1:${admin}`, token },
    data_dir: dataDir,
    channels: ['openai', 'anthropic', 'gemini'].map((name) => ({
      name, protocol: name, base_url: 'http://127.0.0.1:9', keys: [{ name: 'main', value: 'sk-upstream' }], models: ['*'],
    })),
    users: Array.from({ length: USERS }, (_, n) => ({ name: userOf(n), max_keys: 1000 })),
    keys: Array.from({ length: keys }, (_, n) => ({
      name: keyOf(n), user: userOf(n), sha256: digest(n), limits: { rpm: 600, budget_usd: { month: '100' } },
    })),
  };
}

/** The record of the nth request; of fifty one fails. */
export function record(n, keys, time) {
  const key = n % keys;
  const [model, protocol] = MODELS[n % MODELS.length];
  const [failed, stream] = [n % 50 === 0, n % 3 === 0];
  const [input, output] = failed ? [0, 0] : [100 + ((n * 37) % 4000), 20 + ((n * 53) % 1500)];
  const [status, outcome] = failed ? [503, 'upstream_error'] : [200, 'ok'];
  return {
    schema_version: 1, id: createHash('md5').update(`${n}`).digest('hex'), time: new Date(time).toISOString(), node: 'seed/0',
    key_id: keyOf(key), key_name: keyOf(key), user: userOf(key), route: '/v1/chat/completions', operation: 'openai.chat', protocol,
    channel: protocol, channel_key: 'main', model_requested: model, model_upstream: model, model_reported: failed ? null : model,
    stream, status, outcome, error: failed ? 'status_503' : null,
    attempts: [{ channel: protocol, channel_key: 'main', outcome, status, duration_ms: 412.5 }],
    events: stream ? output : 0, request_bytes: input * 4, response_bytes: output * 4, input_tokens: input, output_tokens: output,
    cache_read_tokens: 0, cache_write_tokens: 0, reasoning_tokens: 0, usage_source: failed ? 'none' : 'upstream', usage_raw: null,
    cost_nano_usd: input * 2500 + output * 10_000, duration_ms: 413.25, ttft_ms: failed ? null : 120.5, overhead_us: 41,
    client_ip: '192.0.2.7', user_agent: 'OpenAI/Python 1.99', traceparent: null, request_headers: null, request_body: null,
    response_headers: null, response_body: null,
  };
}

/** Writes `count` records as closed files of the history, the last of them just now. The gateway makes its index of them. */
export function history(dataDir, count, keys, now = Date.now()) {
  const directory = join(dataDir, 'history');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const timeOf = (n) => Math.round(now - ((count - n) / count) * SPREAD_MS);
  for (let first = 0; first < count; first += SEGMENT) {
    const last = Math.min(first + SEGMENT, count);
    const file = openSync(join(directory, `${timeOf(first).toString(16).padStart(16, '0')}.records`), 'wx', 0o600);
    for (let n = first; n < last; n += 1000) {
      const lines = Array.from({ length: Math.min(1000, last - n) }, (_, at) => JSON.stringify(record(n + at, keys, timeOf(n + at))));
      writeSync(file, `${lines.join('\n')}\n`);
    }
    closeSync(file);
  }
}
