// A table of prices while it is worked on: its entries with marks of their own, and how one is read from a file.
import type { PriceEntry, PriceRates } from '../../lib/api/types';
import { exact, nanoOf } from '../../lib/format/money';

export interface Line {
  /** In this table alone; its place changes. */
  id: number;
  entry: PriceEntry;
}

export const RATES = ['input', 'output', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'reasoning'] as const satisfies readonly (keyof PriceRates)[];

let next = 1;
export function lineOf(entry: PriceEntry): Line {
  return { id: next++, entry };
}

/** What is written as no price is shown as it is. */
export function priceText(price: string | undefined): string {
  if (price === undefined) return '';
  const nano = nanoOf(price);
  return nano === null ? price : exact(nano);
}

/** The mistakes of a refused table, by line: the server names entries by their place in what was sent. */
export function byLine(lines: readonly Line[], mistakes: readonly { field: string; message: string }[]): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const { field, message } of mistakes) {
    const place = /^models\[(\d+)\]/.exec(field)?.[1];
    const line = place === undefined ? undefined : lines[Number(place)];
    if (line) found.set(line.id, [...(found.get(line.id) ?? []), message]);
  }
  return found;
}

/**
 * The entries of a text: `{"models": [{"model", …}]}` as the API says it, that list alone, or `{"models": {"gpt-*": {…}}}`
 * as in a price file. `null`: it is none of them. What entries hold is for the server to judge.
 */
export function readTable(text: string): PriceEntry[] | null {
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch {
    return null;
  }
  const models = isObject(read) ? read.models : read;
  const entries = Array.isArray(models) ? models : isObject(models) ? Object.entries(models).map(([model, fields]) => (isObject(fields) ? { ...fields, model } : null)) : [];
  if (entries.length === 0 || !entries.every((entry) => isObject(entry) && typeof entry.model === 'string')) return null;
  return entries.map((entry) => words(entry as Record<string, unknown>) as unknown as PriceEntry);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Prices are texts; files may have them as numbers. */
function words(fields: Record<string, unknown>): Record<string, unknown> {
  const isPrice = (name: string): boolean => (RATES as readonly string[]).includes(name) || name === 'per_request' || name === 'per_image';
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (isPrice(name) && typeof value === 'number') return [name, String(value)];
      if (name === 'tiers' && Array.isArray(value)) return [name, value.map((tier: unknown) => (isObject(tier) ? words(tier) : tier))];
      return [name, value];
    }),
  );
}
