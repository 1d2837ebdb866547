import { expect, test } from 'vitest';
import { LINES, pieces } from '../src/pages/config/pieces';

const told = (total: number, marks: number[] = [], opened: [number, number][] = []) =>
  pieces(total, marks, opened).map(({ from, to, shown }) => `${shown ? 'shows' : 'leaves out'} ${from}-${to}`);

test('a text that is not long is shown whole', () => {
  expect(told(0)).toEqual([]);
  expect(told(1)).toEqual(['shows 0-1']);
  expect(told(LINES, [1, LINES])).toEqual([`shows 0-${LINES}`]);
});

test('of a long one the beginning is shown, and what is wrong wherever it stands', () => {
  expect(told(5000)).toEqual(['shows 0-1000', 'leaves out 1000-5000']);
  expect(told(5000, [3000])).toEqual(['shows 0-1000', 'leaves out 1000-2994', 'shows 2994-3005', 'leaves out 3005-5000']);
  expect(told(5000, [5000, 1004])).toEqual(['shows 0-1009', 'leaves out 1009-4994', 'shows 4994-5000']);
  expect(told(5000, [3000, 3004])).toEqual(['shows 0-1000', 'leaves out 1000-2994', 'shows 2994-3009', 'leaves out 3009-5000']);
});

test('what is opened joins what is shown', () => {
  expect(told(5000, [], [[1000, 2000]])).toEqual(['shows 0-2000', 'leaves out 2000-5000']);
  expect(told(1500, [1400], [[1000, 2000]])).toEqual(['shows 0-1500']);
});
