import { describe, expect, it } from 'vitest';
import type { Attempt, RequestRecord } from '../src/lib/api/types';
import { timeline } from '../src/pages/requests/timeline';

function record(more: Partial<RequestRecord>): RequestRecord {
  return {
    id: '0', time: '2026-11-30T00:00:00Z', key_name: 'k', operation: 'openai.chat', protocol: 'openai', channel: 'b', model_requested: 'm',
    stream: true, status: 200, outcome: 'ok', error: null, attempts: [], events: 0, input_tokens: 0, output_tokens: 0, cache_read_tokens: 0,
    cache_write_tokens: 0, reasoning_tokens: 0, usage_source: 'upstream', cost_nano_usd: 0, duration_ms: 100, ttft_ms: null, overhead_us: 200,
    ...more,
  };
}
const attempt = (channel: string, duration_ms: number, status: number | null = 200): Attempt => ({
  channel, channel_key: null, outcome: status === 200 ? 'ok' : 'upstream_error', status, duration_ms,
});
const said = (more: Partial<RequestRecord>): [string, number, number | null][] => timeline(record(more)).map(({ kind, at, took }) => [kind, at, took]);

describe('the timeline of a request', () => {
  it('begins with the arrival and ends with the end, with the attempt that served between', () => {
    expect(said({ attempts: [attempt('b', 90)], ttft_ms: 40 })).toEqual([
      ['arrived', 0, null], ['admitted', 10, 10], ['attempt', 10, 90], ['first_token', 40, null], ['answering', 40, 60], ['end', 100, null],
    ]);
  });

  it('sets attempts one after another, and the one that served at the end', () => {
    expect(said({ attempts: [attempt('a', 20, 503), attempt('b', 60)] })).toEqual([
      ['arrived', 0, null], ['admitted', 0.2, 0.2], ['attempt', 0.2, 20], ['attempt', 40, 60], ['end', 100, null],
    ]);
  });

  it('does not set the last failure at the end when nobody served', () => {
    const failed = { channel: null, status: 502, outcome: 'upstream_error' as const, overhead_us: null };
    expect(said({ ...failed, attempts: [attempt('a', 20, 503), attempt('b', 30, null)] })).toEqual([
      ['arrived', 0, null], ['admitted', 50, 50], ['attempt', 50, 20], ['attempt', 70, 30], ['end', 100, null],
    ]);
  });

  it('says that a request was refused before any channel was asked', () => {
    expect(said({ status: 429, outcome: 'refused', channel: null, duration_ms: 0.3 })).toEqual([
      ['arrived', 0, null], ['refused', 0.3, 0.3], ['end', 0.3, null],
    ]);
  });

  it('says nothing of a client that left before anything happened', () => {
    expect(said({ status: null, outcome: 'client_abort' }).map(([kind]) => kind)).toEqual(['arrived', 'end']);
  });

  it('stays within the request whatever its record says', () => {
    for (const [, at, took] of said({ duration_ms: 5, attempts: [attempt('a', 50, 500), attempt('b', 50)], ttft_ms: 80 })) {
      expect(at).toBeGreaterThanOrEqual(0);
      expect(at).toBeLessThanOrEqual(5);
      expect(took ?? 0).toBeGreaterThanOrEqual(0);
    }
  });
});
