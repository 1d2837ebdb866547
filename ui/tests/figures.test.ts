import { describe, expect, it } from 'vitest';
import type { UsageRow } from '../src/lib/api/types';
import { along, byDay, byValue, sorted, stepOf, timesOf, total } from '../src/pages/usage/figures';

function row(more: Partial<UsageRow>): UsageRow {
  return {
    time: null, requests: 1, failed: 0, events: 0, input_tokens: 10, output_tokens: 5, cache_read_tokens: 0, cache_write_tokens: 0,
    reasoning_tokens: 0, cost_micro_usd: 0, cost_nano_usd: 0, unpriced: 0, ...more,
  };
}

describe('sums of usage', () => {
  it('add money up to the billionth, even beyond what a number holds', () => {
    const large = { cost_micro_usd: 9_007_199_254_740, cost_nano_usd: 9_007_199_254_740_991 };
    expect(total([row(large), row(large), row({ cost_nano_usd: 1 })]).cost).toBe(18_014_398_509_481_983n);
  });

  it('are one for each value, and none is lost', () => {
    const rows = [row({ key: 'a', time: '2026-11-01T00:00:00Z' }), row({ key: '' }), row({ key: 'a', time: '2026-11-02T00:00:00Z', requests: 4 })];
    expect(byValue(rows, 'key').map(({ name, requests }) => [name, requests])).toEqual([['a', 5], ['', 1]]);
    expect(total(rows).requests).toBe(6);
  });

  it('are one for each day of UTC, the newest first', () => {
    const rows = ['2026-11-01T23:00:00Z', '2026-11-02T00:00:00Z', '2026-11-01T00:00:00Z'].map((time) => row({ time }));
    expect(byDay(rows).map(({ name, requests }) => [name, requests])).toEqual([['2026-11-02', 1], ['2026-11-01', 2]]);
  });

  it('leave no hole on a chart, and end now', () => {
    const range = { from: '2026-11-01T00:00:00Z', to: '2026-12-01T00:00:00Z' };
    const times = timesOf(range, stepOf(range), Date.parse('2026-11-03T10:00:00Z'));
    expect(times.map((time) => new Date(time).toISOString().slice(0, 10))).toEqual(['2026-11-01', '2026-11-02', '2026-11-03']);
    const rows = [row({ time: '2026-11-03T00:00:00Z' }), row({ time: '2026-11-03T00:00:00Z', requests: 2 }), row({ time: '2026-11-01T00:00:00Z' })];
    expect(along(times, rows, 'requests')).toEqual([1, 0, 3]);
    expect(along(times, rows, 'tokens')).toEqual([15, 0, 30]);
  });

  it('are by months when a range is long, across the end of a year', () => {
    const range = { from: '2026-11-15T00:00:00Z', to: '2027-03-01T00:00:00Z' };
    expect(stepOf(range)).toBe('month');
    expect(timesOf(range, 'month', Date.parse('2027-02-10T00:00:00Z')).map((time) => new Date(time).toISOString().slice(0, 7))).toEqual([
      '2026-11', '2026-12', '2027-01', '2027-02',
    ]);
  });

  it('are sorted by whole money', () => {
    const rows = byValue([row({ key: 'a', cost_nano_usd: 2 }), row({ key: 'b', cost_nano_usd: 10 })], 'key');
    expect(sorted(rows, 'cost', true).map(({ name }) => name)).toEqual(['b', 'a']);
    expect(sorted(rows, 'name', false).map(({ name }) => name)).toEqual(['a', 'b']);
  });
});
