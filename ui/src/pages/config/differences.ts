// What a change changed: fields that are not what they were.
type Fields = Record<string, unknown> | null;

export interface Difference {
  name: string;
  before: unknown;
  after: unknown;
}

/** Of two objects the fields that differ, by their path; of one alone all that say something. */
export function differences(before: Fields, after: Fields): Difference[] {
  const found: Difference[] = [];
  compare('', before ?? {}, after ?? {}, found);
  return found;
}

function compare(path: string, before: Record<string, unknown>, after: Record<string, unknown>, found: Difference[]): void {
  for (const field of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const name = path === '' ? field : `${path}.${field}`;
    const [old, new_] = [before[field], after[field]];
    if (isObject(old) || isObject(new_)) {
      if ((isObject(old) || isNothing(old)) && (isObject(new_) || isNothing(new_))) {
        compare(name, isObject(old) ? old : {}, isObject(new_) ? new_ : {}, found);
        continue;
      }
    }
    if (isNothing(old) && isNothing(new_)) continue;
    if (JSON.stringify(old) !== JSON.stringify(new_)) found.push({ name, before: old, after: new_ });
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNothing(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}

export function textOf(value: unknown): string {
  return isNothing(value) ? '—' : typeof value === 'string' ? value : JSON.stringify(value);
}
