// Lists of names and globs, as people write them into one field.

export function parseList(text: string): string[] {
  return text.split(/[\s,]+/).filter((part) => part !== '');
}

export function writeList(list: string[]): string {
  return list.join(', ');
}

/** A model's name that a glob serves, for an example: the glob itself if it has no star. */
export function exampleOf(glob: string): string {
  const known: [RegExp, string][] = [
    [/^gpt/, 'gpt-4o-mini'],
    [/^claude/, 'claude-sonnet-4-5'],
    [/^gemini/, 'gemini-2.5-flash'],
    [/^text-embedding/, 'text-embedding-3-small'],
  ];
  if (!glob.includes('*')) return glob;
  return known.find(([pattern, model]) => pattern.test(glob) && matches(glob, model))?.[1] ?? glob.replaceAll('*', '');
}

/** Whether a glob, in which `*` stands for any run of characters, matches. */
export function matches(glob: string, text: string): boolean {
  const pattern = glob.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('.*');
  return new RegExp(`^${pattern}$`, 's').test(text);
}
