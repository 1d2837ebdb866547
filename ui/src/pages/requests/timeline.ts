// When each part of a request began and how long it took, from what its record says.
import type { Attempt, RequestRecord } from '../../lib/api/types';

export interface Step {
  kind: 'arrived' | 'admitted' | 'refused' | 'attempt' | 'first_token' | 'answering' | 'end';
  /** Milliseconds from arrival. */
  at: number;
  took: number | null;
  attempt?: Attempt;
  number?: number;
}

/**
 * The last attempt of a request that was served ends with it; the others follow each other from the moment at which the
 * first channel was chosen. Records do not say how long was waited between two of them.
 */
export function timeline(record: RequestRecord): Step[] {
  const end = record.duration_ms;
  const attempts = record.attempts ?? [];
  const steps: Step[] = [{ kind: 'arrived', at: 0, took: null }];
  const starts = startsOf(record, attempts);
  const first = starts[0];
  if (first === undefined) {
    const refused = record.outcome === 'refused' || (record.status ?? 0) >= 400;
    if (refused) steps.push({ kind: 'refused', at: end, took: end });
  } else {
    steps.push({ kind: 'admitted', at: first, took: first });
  }
  attempts.forEach((attempt, index) => {
    steps.push({ kind: 'attempt', at: starts[index] ?? 0, took: attempt.duration_ms, attempt, number: index + 1 });
  });
  if (record.ttft_ms !== null && attempts.length > 0) {
    const at = within(record.ttft_ms, 0, end);
    steps.push({ kind: 'first_token', at, took: null }, { kind: 'answering', at, took: end - at });
  }
  steps.push({ kind: 'end', at: end, took: null });
  return steps;
}

function startsOf(record: RequestRecord, attempts: Attempt[]): number[] {
  const last = attempts[attempts.length - 1];
  if (!last) return [];
  const end = record.duration_ms;
  const all = attempts.reduce((sum, { duration_ms }) => sum + duration_ms, 0);
  const latest = Math.max(0, end - all);
  let at = attempts.length === 1 ? latest : Math.min((record.overhead_us ?? Infinity) / 1000, latest);
  return attempts.map((attempt) => {
    if (attempt === last && wasServedBy(record, last)) return Math.max(at, end - last.duration_ms);
    const start = at;
    at = Math.min(end, at + attempt.duration_ms);
    return start;
  });
}

function wasServedBy(record: RequestRecord, attempt: Attempt): boolean {
  return record.channel === attempt.channel && record.status === attempt.status;
}

function within(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, value));
}
