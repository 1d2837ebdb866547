import { describe, expect, it } from 'vitest';
import { csv } from '../src/lib/format/csv';
import { exampleOf, matches } from '../src/lib/format/globs';
import { costOf, exact, nanoOf, share, short } from '../src/lib/format/money';
import { shell, snippet } from '../src/lib/format/snippets';
import { range, steps } from '../src/lib/format/time';

describe('money', () => {
  it('is shown to the last digit that counts', () => {
    for (const [nano, text] of [
      [0, '$0.00'], [1, '$0.000000001'], [3_450_000, '$0.00345'], [12_500_000_000, '$12.50'], [1_234_567_891_234_567_891n, '$1,234,567,891.234567891'],
    ] as const) expect(exact(nano)).toBe(text);
  });
  it('is rounded for looking at, and never to nothing', () => {
    for (const [nano, text] of [[1, '$0.000000001'], [3_456_789, '$0.00346'], [999_999_999, '$1.00'], [1_005_000_000, '$1.01'], [1_234_499_999_999, '$1,234.50']] as const) {
      expect(short(nano)).toBe(text);
    }
  });
  it('is read as the API writes it, or not at all', () => {
    expect([nanoOf('2.5'), nanoOf('0.000000001'), nanoOf('1e3'), nanoOf('-1'), nanoOf('1.0000000001'), nanoOf('')]).toEqual([2_500_000_000n, 1n, null, null, null, null]);
    expect([share('4', '5'), share('6', '5'), share('1', '0')]).toEqual([0.8, 1.2, 1]);
  });
  it('falls back to millionths where a number cannot hold billionths', () => {
    expect(costOf({ cost_micro_usd: 7, cost_nano_usd: 6_999 })).toBe(6_999n);
    expect(costOf({ cost_micro_usd: 9_007_199_254_741, cost_nano_usd: 9_007_199_254_740_993 })).toBe(9_007_199_254_741_000n);
  });
});

it('no cell of a table becomes a formula', () => {
  expect(csv(['a', 'b'], [['=1+1', 'say "hi", twice'], ['-x', 5n], [null, -5]])).toBe('a,b\r\n\'=1+1,"say ""hi"", twice"\r\n\'-x,5\r\n,-5\r\n');
});

it('ranges are whole days of UTC, over the ends of months and years', () => {
  const now = Date.parse('2027-01-01T00:30:00Z');
  expect(range('today', now)).toEqual({ from: '2027-01-01T00:00:00Z', to: '2027-01-02T00:00:00Z' });
  expect(range('7d', now).from).toBe('2026-12-26T00:00:00Z');
  expect(range('last_month', now)).toEqual({ from: '2026-12-01T00:00:00Z', to: '2027-01-01T00:00:00Z' });
  expect(range('custom', now, { from: '2026-02-28', to: '2026-03-01' })).toEqual({ from: '2026-02-28T00:00:00Z', to: '2026-03-02T00:00:00Z' });
  expect(range('custom', now, { from: '2026-03-02', to: '2026-03-01' })).toEqual(range('7d', now));
  expect(steps(range('today', now), 'hour', now).length).toBe(1);
});

it('a glob matches as the gateway has it, and gives an example', () => {
  expect([matches('gpt-*', 'gpt-4o'), matches('gpt-*', 'xgpt-4'), matches('a.c', 'abc'), matches('*', '')]).toEqual([true, false, false, true]);
  expect([exampleOf('gpt-*'), exampleOf('claude-*'), exampleOf('o3'), exampleOf('miniai-*')]).toEqual(['gpt-4o-mini', 'claude-sonnet-4-5', 'o3', 'miniai-']);
});

it('nothing in a snippet leaves its quotes', () => {
  expect([shell('abc'), shell("it's; rm -rf $HOME")]).toEqual(['abc', `'it'\\''s; rm -rf $HOME'`]);
  const text = snippet('curl', { base: 'http://h:1', key: 'k', model: "m'x", protocol: 'openai' });
  expect(text).toContain(`{"model":"m'\\''x"`);
});
