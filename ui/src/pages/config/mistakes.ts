// Mistakes of a configuration, in any of the forms in which the API tells of them.
import type { Mistake } from '../../lib/api/types';

export interface Told {
  line: number | null;
  column: number | null;
  file: string | null;
  field: string | null;
  message: string;
}

/** A reload's refusal has them as text, `weir.yaml:3:5: what is wrong`. */
export function told(mistake: Mistake | string): Told {
  if (typeof mistake !== 'string') {
    const { line, column, message, file, field } = mistake as Mistake & { file?: string | null; field?: string | null };
    return { line, column, file: file ?? null, field: field ?? null, message };
  }
  const at = /^(?:(.+?):)?(\d+):(\d+): (.*)$/s.exec(mistake);
  if (!at) return { line: null, column: null, file: null, field: null, message: mistake };
  return { file: at[1] ?? null, line: Number(at[2]), column: Number(at[3]), field: null, message: at[4] ?? '' };
}

/** Those of each line of the file itself. */
export function byLine(mistakes: Told[], path: string | null): Map<number, string[]> {
  const lines = new Map<number, string[]>();
  for (const { line, file, message } of mistakes) {
    if (line === null || (file !== null && path !== null && nameOf(file) !== nameOf(path))) continue;
    lines.set(line, [...(lines.get(line) ?? []), message]);
  }
  return lines;
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
