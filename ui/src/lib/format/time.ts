// Times in the viewer's own zone, with UTC beside them; and ranges, whose days are those of UTC, by which money is counted.

const two = (value: number): string => String(value).padStart(2, '0');

/** 14:03:09 today, 11-29 14:03:09 this year, 2025-11-29 14:03 before. */
export function local(time: string | number, now: number = Date.now()): string {
  const at = new Date(time);
  const today = new Date(now);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === today.toDateString()) return clock;
  const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  if (at.getFullYear() === today.getFullYear()) return `${day} ${clock}`;
  return `${at.getFullYear()}-${day} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function utc(time: string | number): string {
  return `${new Date(time).toISOString().replace('T', ' ').replace(/\.000Z$/, 'Z').replace('Z', '')} UTC`;
}

/** 2026-11-30 of a day of UTC. */
export function day(time: string | number): string {
  return new Date(time).toISOString().slice(0, 10);
}

export type RangeName = 'today' | '7d' | '30d' | 'month' | 'last_month' | 'custom';
export const RANGES: readonly RangeName[] = ['today', '7d', '30d', 'month', 'last_month', 'custom'];

export interface Range {
  /** The first moment, RFC 3339. */
  from: string;
  /** The moment after the last. */
  to: string;
}

const DAY_MS = 86_400_000;

/** A range of whole days of UTC, by its name, or by its first and its last day. */
export function range(name: RangeName, now: number, custom?: { from: string; to: string }): Range {
  const today = Math.floor(now / DAY_MS) * DAY_MS;
  const date = new Date(now);
  const month = (offset: number): number => Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + offset, 1);
  const of = (from: number, to: number): Range => ({ from: seconds(from), to: seconds(to) });
  switch (name) {
    case 'today':
      return of(today, today + DAY_MS);
    case '7d':
      return of(today - 6 * DAY_MS, today + DAY_MS);
    case '30d':
      return of(today - 29 * DAY_MS, today + DAY_MS);
    case 'month':
      return of(month(0), month(1));
    case 'last_month':
      return of(month(-1), month(0));
    case 'custom': {
      const [first, last] = [Date.parse(`${custom?.from ?? ''}T00:00:00Z`), Date.parse(`${custom?.to ?? ''}T00:00:00Z`)];
      if (Number.isNaN(first) || Number.isNaN(last) || last < first) return range('7d', now);
      return of(first, last + DAY_MS);
    }
  }
}

/** The starts of all steps of a range up to `now`, so that a chart has no holes. */
export function steps(range: Range, step: 'hour' | 'day', now: number): number[] {
  const width = step === 'hour' ? 3_600_000 : DAY_MS;
  const [from, to] = [Date.parse(range.from), Math.min(Date.parse(range.to), now)];
  const all: number[] = [];
  for (let at = from; at < to; at += width) all.push(at);
  return all;
}

function seconds(ms: number): string {
  return new Date(ms).toISOString().replace('.000', '');
}

/** What `<input type="datetime-local">` shows of a time, in the viewer's zone; and back. */
export function toInput(time: string | null): string {
  if (!time) return '';
  const at = new Date(time);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function fromInput(text: string): string | null {
  const at = new Date(text);
  return text === '' || Number.isNaN(at.getTime()) ? null : at.toISOString();
}
