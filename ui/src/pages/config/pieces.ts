// Which lines of a long text are shown: a browser is slow with a hundred thousand of them, and nobody reads those.

/** Lines that are shown at first: some screens of them. */
export const FIRST = 300;
/** Lines that are shown beside them at each wish. */
export const MORE = 1000;
/** Lines around one that is pointed at. */
const AROUND = 5;

/** The lines `from` up to `to`, counted from 0, `to` excluded; shown, or left out. */
export interface Piece {
  from: number;
  to: number;
  shown: boolean;
}

/** The pieces of a text of `total` lines: its first ones, those around `marks` (counted from 1), and what was `opened`. */
export function pieces(total: number, marks: Iterable<number>, opened: readonly [number, number][]): Piece[] {
  const around = Array.from(marks, (line): [number, number] => [line - 1 - AROUND, line + AROUND]);
  const wanted = [[0, FIRST] as [number, number], ...opened, ...around]
    .map(([from, to]): [number, number] => [Math.max(from, 0), Math.min(to, total)])
    .filter(([from, to]) => from < to)
    .sort(([a], [b]) => a - b);
  const found: Piece[] = [];
  let at = 0;
  for (const [from, to] of wanted) {
    if (to <= at) continue;
    const last = found.at(-1);
    if (from > at) found.push({ from: at, to: from, shown: false });
    if (last?.shown && from <= at) last.to = to;
    else found.push({ from: Math.max(from, at), to, shown: true });
    at = to;
  }
  if (at < total) found.push({ from: at, to: total, shown: false });
  return found;
}
