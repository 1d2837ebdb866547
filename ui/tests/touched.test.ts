import { describe, expect, it } from 'vitest';
import type { Key } from '../src/lib/api/types';
import { touched } from '../src/lib/format/touched';
import { fieldsOf, textsOfKey } from '../src/pages/keys/form';

it('what was not touched is left out, and what is gone is null', () => {
  const before = { name: 'a', models: ['x'], limits: { rpm: 1, budget_usd: { day: '1', month: null } }, map: { a: 'b' }, on: true };
  expect(touched(before, structuredClone(before))).toEqual({});
  const after = { name: 'a', models: ['x', 'y'], limits: { rpm: 1, budget_usd: { day: null, month: null } }, map: {}, on: true };
  expect(touched(before, after)).toEqual({ models: ['x', 'y'], limits: { budget_usd: { day: null } }, map: { a: null } });
  expect(touched({ on: null }, { on: [1] })).toEqual({ on: [1] });
});

describe('a key', () => {
  const key = {
    id: 'k', name: 'laptop', user: 'alice', enabled: true, expires: '2027-01-01T12:34:56Z', protocols: ['openai'], models: ['gpt-*'], channels: [],
    limits: { rpm: 60, tpm: null, concurrency: null, budget_usd: { day: null, month: '100', total: null } },
  } as unknown as Key;

  it('of which another field is edited keeps its end to the second', () => {
    expect(touched(fieldsOf(textsOfKey(key)), fieldsOf({ ...textsOfKey(key), name: 'desk' }))).toEqual({ name: 'desk' });
  });

  it('may end never, belong to nobody, and be limited otherwise', () => {
    const texts = textsOfKey(key);
    const edited = { ...texts, user: ' ', expires: '', protocols: [], limits: { ...texts.limits, rpm: '' } };
    expect(touched(fieldsOf(texts), fieldsOf(edited))).toEqual({ user: null, expires: null, protocols: null, limits: { rpm: null } });
  });
});
