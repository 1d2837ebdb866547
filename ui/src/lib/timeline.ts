// One request as spans on a line of time, from its arrival on. Attempts follow one another; the last one lasts to the end.
import type { RequestRecord } from './api/types';

export interface Span {
  kind: 'admitted' | 'attempt' | 'answer' | 'refused';
  /** Of an attempt: its number, from 1. */
  number: number;
  from: number;
  to: number;
  ok: boolean;
}

export function timeline(record: RequestRecord): Span[] {
  const { duration_ms: end, attempts = [], ttft_ms: first } = record;
  if (attempts.length === 0) return [{ kind: 'refused', number: 0, from: 0, to: end, ok: false }];
  const asked = attempts.reduce((sum, attempt) => sum + attempt.duration_ms, 0);
  // What is not an attempt's was before the first.
  let at = Math.max(0, Math.min(end, record.overhead_us === null || record.overhead_us === undefined ? end - asked : record.overhead_us / 1000));
  const spans: Span[] = [{ kind: 'admitted', number: 0, from: 0, to: at, ok: true }];
  attempts.forEach((attempt, place) => {
    const isLast = place === attempts.length - 1;
    const to = Math.min(end, at + attempt.duration_ms);
    const ok = attempt.outcome === 'ok';
    if (isLast && first !== null && first > at && first < end) {
      spans.push({ kind: 'attempt', number: place + 1, from: at, to: first, ok }, { kind: 'answer', number: 0, from: first, to: Math.max(to, first), ok });
    } else {
      spans.push({ kind: 'attempt', number: place + 1, from: at, to, ok });
    }
    at = to;
  });
  return spans;
}
