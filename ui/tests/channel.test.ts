import { describe, expect, it } from 'vitest';
import type { Channel } from '../src/lib/api/types';
import { changesOf, fieldsOf, textsOfChannel } from '../src/pages/channels/form';

const channel = {
  name: 'c', protocol: 'openai', base_url: 'https://api.example.com', keys: [{ name: 'main', state: 'healthy' }], models: ['gpt-*'],
  model_map: { a: 'b' }, inject_usage: true, timeouts: { connect: '3s', first_byte: '2m', idle: '5m' }, priority: 0, weight: 1,
  on_disconnect: 'drain', max_concurrency: 0, retry: { attempts: 2, within: '5m', on: ['connect', 429] }, cooldown: { failures: 3, for: '30s' },
  limits: { rpm: null, tpm: null, concurrency: null, budget_usd: { day: null, month: null, total: null } }, origin: 'api', shadowed: false,
} as Channel;

describe('the form of a channel', () => {
  it('sends nothing of what was not touched, so that defaults stay defaults', () => {
    expect(changesOf(textsOfChannel(channel), channel)).toEqual({});
    const texts = textsOfChannel(channel);
    texts.timeouts.first_byte = '30s';
    expect(changesOf(texts, channel)).toEqual({ timeouts: { first_byte: '30s' } });
  });

  it('sends a secret alone with the names of all keys, and takes a line of the map away', () => {
    const texts = textsOfChannel(channel);
    texts.keys.push({ id: 1, name: 'spare', value: 'sk-2', kept: false });
    texts.model_map = '';
    expect(changesOf(texts, channel)).toEqual({ keys: [{ name: 'main' }, { name: 'spare', value: 'sk-2' }], model_map: { a: null } });
  });

  it('sends when to try again and when to rest', () => {
    const texts = textsOfChannel(channel);
    texts.retry = { attempts: '3', within: '', on: 'connect 503' };
    texts.cooldown = { failures: '5', for: '1m' };
    const changes = { retry: { attempts: 3, within: null, on: ['connect', 503] }, cooldown: { failures: 5, for: '1m' } };
    expect(changesOf(texts, channel)).toEqual(changes);
    texts.retry.on = ' ';
    expect(changesOf(texts, channel)).toMatchObject({ retry: { on: null } });
    expect(fieldsOf(textsOfChannel(null), true)).toMatchObject({ retry: { attempts: null, within: null, on: null }, cooldown: { failures: null, for: null } });
  });
});
