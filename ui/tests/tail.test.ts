import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { RequestRecord } from '../src/lib/api/types';
import { Tail } from '../src/lib/tail.svelte';

const record = (id: string): RequestRecord => ({ id }) as RequestRecord;
const ids = (tail: Tail): string => tail.rows.map(({ id }) => id).join('');

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('what comes while the newest are fetched stays above them, once', async () => {
  const tail = new Tail(10);
  tail.below([record('a')]);
  let answer: (rows: RequestRecord[]) => void = () => {};
  const renewed = tail.renew(new Promise<{ rows: RequestRecord[] }>((done) => (answer = (rows) => done({ rows }))));
  tail.add(record('c'));
  vi.advanceTimersByTime(300);
  tail.add(record('d'));
  answer([record('c'), record('b'), record('a')]);
  await renewed;
  expect(ids(tail)).toBe('dcba');
  vi.advanceTimersByTime(300);
  expect(ids(tail)).toBe('dcba');
});

it('what is fetched anew takes the place of what was there, and fails without harm', async () => {
  const tail = new Tail(2);
  tail.below([record('x')]);
  await expect(tail.renew(Promise.reject(new Error('down')))).rejects.toThrow('down');
  expect(ids(tail)).toBe('x');
  await tail.renew(Promise.resolve({ rows: [record('c'), record('b'), record('a')] }));
  expect(ids(tail)).toBe('cba');
});
