// Rows of usage made into what a table and a chart show. Both are of the same rows, so that they agree.
import type { By, Figures, UsageRow } from '../../lib/api/types';
import { costOf } from '../../lib/format/money';
import { day, steps, type Range } from '../../lib/format/time';

export interface Answer {
  rows: UsageRow[];
  /** The sums of the values that were left out: one row for each step. */
  rest: UsageRow[];
  /** How many values there are. */
  values: number;
}

const COUNTS = [
  'requests', 'failed', 'input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_write_tokens', 'reasoning_tokens', 'unpriced',
] as const;
type Count = (typeof COUNTS)[number];

/** Figures that are added up; money stays whole. */
export type Sum = Record<Count, number> & { cost: bigint };
export type Named = Sum & { name: string };

export function nothing(): Sum {
  return { ...(Object.fromEntries(COUNTS.map((name) => [name, 0])) as Record<Count, number>), cost: 0n };
}

export function add(sum: Sum, row: Figures): Sum {
  for (const name of COUNTS) sum[name] += row[name];
  sum.cost += costOf(row);
  return sum;
}

export function total(rows: Figures[]): Sum {
  return rows.reduce<Sum>(add, nothing());
}

/** One sum for each value, in the order in which they come. */
export function byValue(rows: UsageRow[], by: By): Named[] {
  return grouped(rows, (row) => row[by] ?? '');
}

/** One sum for each day of UTC, the newest first. */
export function byDay(rows: UsageRow[]): Named[] {
  const days = grouped(rows, (row) => (row.time === null ? (row.day ?? '') : day(row.time)));
  return days.sort((a, b) => (a.name < b.name ? 1 : -1));
}

function grouped(rows: UsageRow[], nameOf: (row: UsageRow) => string): Named[] {
  const all = new Map<string, Named>();
  for (const row of rows) {
    const name = nameOf(row);
    let sum = all.get(name);
    if (!sum) all.set(name, (sum = { ...nothing(), name }));
    add(sum, row);
  }
  return [...all.values()];
}

export type StepName = 'hour' | 'day' | 'month';
const DAY_MS = 86_400_000;

/** How fine a chart of a range is. */
export function stepOf({ from, to }: Range): StepName {
  const days = (Date.parse(to) - Date.parse(from)) / DAY_MS;
  return days <= 2 ? 'hour' : days <= 100 ? 'day' : 'month';
}

/** The beginnings of the steps of a range, up to now. */
export function timesOf(range: Range, step: StepName, now: number): number[] {
  if (step !== 'month') return steps(range, step, now);
  const all: number[] = [];
  const [from, to] = [new Date(range.from), Math.min(Date.parse(range.to), now)];
  for (let month = 0; ; month += 1) {
    const at = Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + month, 1);
    if (at >= to) return all;
    all.push(at);
  }
}

/** A value for each time; where there is no row there was nothing. */
export function along(times: number[], rows: UsageRow[], measure: Measure): number[] {
  const at = new Map(times.map((time, index) => [time, index]));
  const values = times.map(() => 0);
  for (const row of rows) {
    const index = row.time === null ? undefined : at.get(Date.parse(row.time));
    if (index !== undefined) values[index] = (values[index] ?? 0) + measured(add(nothing(), row), measure);
  }
  return values;
}

export type Measure = 'cost' | 'requests' | 'tokens' | 'failed';
export const MEASURES: readonly Measure[] = ['cost', 'requests', 'tokens', 'failed'];

/** For drawing alone: a large sum of money is no exact number. */
export function measured(sum: Sum, measure: Measure): number {
  switch (measure) {
    case 'cost':
      return Number(sum.cost);
    case 'tokens':
      return sum.input_tokens + sum.output_tokens;
    default:
      return sum[measure];
  }
}

export type Column = 'name' | Count | 'cost';

export function sorted(rows: Named[], column: Column, down: boolean): Named[] {
  const compare = (a: Named, b: Named): number => {
    const [x, y] = [a[column], b[column]];
    return x < y ? -1 : x > y ? 1 : 0;
  };
  return [...rows].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
}
