// What of a form was changed: what stays as it was is not sent, so that it stays whatever it means to whoever set it.
type Fields = Record<string, unknown>;

/** The fields of `after` that are not as in `before`; of objects those within. What is gone is `null`. */
export function touched(before: Fields, after: Fields): Fields {
  const found: Fields = {};
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[name], after[name] ?? null];
    if (isObject(old) && isObject(now)) {
      const within = touched(old, now);
      if (Object.keys(within).length > 0) found[name] = within;
    } else if (JSON.stringify(old ?? null) !== JSON.stringify(now)) found[name] = now;
  }
  return found;
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
