import { expect, test } from 'vitest';
import { FIRST, pieces } from '../src/pages/config/pieces';

const told = (total: number, marks: number[] = [], opened: [number, number][] = []) =>
  pieces(total, marks, opened).map(({ from, to, shown }) => `${shown ? 'shows' : 'leaves out'} ${from}-${to}`);

test('a text that is not long is shown whole', () => {
  expect(told(0)).toEqual([]);
  expect(told(1)).toEqual(['shows 0-1']);
  expect(told(FIRST, [1, FIRST])).toEqual([`shows 0-${FIRST}`]);
});

test('of a long one the beginning is shown, and what is wrong wherever it stands', () => {
  expect(told(5000)).toEqual(['shows 0-300', 'leaves out 300-5000']);
  expect(told(5000, [3000])).toEqual(['shows 0-300', 'leaves out 300-2994', 'shows 2994-3005', 'leaves out 3005-5000']);
  expect(told(5000, [5000, 304])).toEqual(['shows 0-309', 'leaves out 309-4994', 'shows 4994-5000']);
  expect(told(5000, [3000, 3004])).toEqual(['shows 0-300', 'leaves out 300-2994', 'shows 2994-3009', 'leaves out 3009-5000']);
});

test('what is opened joins what is shown', () => {
  expect(told(5000, [], [[300, 1300]])).toEqual(['shows 0-1300', 'leaves out 1300-5000']);
  expect(told(1200, [1100], [[300, 1300]])).toEqual(['shows 0-1200']);
});
