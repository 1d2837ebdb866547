// What is asked of the records: as it stands in the address, and as the API wants it.
import type { Query } from '../../lib/api/client';

export const NAMES = ['key', 'user', 'model', 'channel', 'status', 'from', 'to'] as const;
export type Filters = Record<(typeof NAMES)[number], string>;

export const STATUSES: readonly string[] = ['2xx', '4xx', '429', '5xx', 'none'];

export function read(query: URLSearchParams): Filters {
  return Object.fromEntries(NAMES.map((name) => [name, (query.get(name) ?? '').trim()])) as Filters;
}

export function isEmpty(filters: Filters): boolean {
  return NAMES.every((name) => filters[name] === '');
}

/** What a stream of what happens can be asked for; it has no times. */
export function ofStream({ key, user, model, channel, status }: Filters): Query {
  return { key, user, model, channel, status };
}

/** Nothing new can come into a time that is over. */
export function isOver({ to }: Filters, now: number): boolean {
  const end = Date.parse(to);
  return !Number.isNaN(end) && end <= now;
}
