// Sums of rows of usage: a table's foot and a chart are made of the same rows by the same rule.
import type { Figures, UsageRow } from './api/types';
import { costOf } from './format/money';

export type Measure = 'cost' | 'requests' | 'failed' | 'tokens';

export interface Sums {
  requests: number;
  failed: number;
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  reasoning: number;
  unpriced: number;
  cost: bigint;
}

export function sums(rows: readonly Figures[]): Sums {
  const all: Sums = { requests: 0, failed: 0, input: 0, output: 0, cacheRead: 0, cacheWrite: 0, reasoning: 0, unpriced: 0, cost: 0n };
  for (const row of rows) {
    all.requests += row.requests;
    all.failed += row.failed;
    all.input += row.input_tokens;
    all.output += row.output_tokens;
    all.cacheRead += row.cache_read_tokens;
    all.cacheWrite += row.cache_write_tokens;
    all.reasoning += row.reasoning_tokens;
    all.unpriced += row.unpriced ?? 0;
    all.cost += costOf(row);
  }
  return all;
}

export function measured(figures: Sums, measure: Measure): number {
  return measure === 'cost' ? Number(figures.cost) : measure === 'tokens' ? figures.input + figures.output : figures[measure];
}

/** One sum for each step, those in which nothing happened included. */
export function byStep(rows: readonly UsageRow[], steps: readonly number[]): Sums[] {
  const at = new Map<number, UsageRow[]>();
  for (const row of rows) {
    if (!row.time) continue;
    const time = Date.parse(row.time);
    const there = at.get(time);
    if (there) there.push(row);
    else at.set(time, [row]);
  }
  return steps.map((step) => sums(at.get(step) ?? []));
}
