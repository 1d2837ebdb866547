import { expect, it } from 'vitest';
import { en } from '../src/lib/i18n/en';
import { zhHans } from '../src/lib/i18n/zh-Hans';
import { zhHant } from '../src/lib/i18n/zh-Hant';

type Words = { [name: string]: string | ((...values: never[]) => string) | Words };

function paths(words: Words, at = ''): string[] {
  return Object.entries(words).flatMap(([name, value]) => (typeof value === 'object' ? paths(value, `${at}${name}.`) : [`${at}${name}`]));
}

function said(words: Words): string[] {
  return Object.values(words).flatMap((value) =>
    typeof value === 'object' ? said(value) : [typeof value === 'string' ? value : (value as (...values: unknown[]) => string)(11, 12, 13)],
  );
}

it('every language says everything', () => {
  for (const words of [zhHans, zhHant]) {
    expect(paths(words as unknown as Words)).toEqual(paths(en as unknown as Words));
    expect(said(words as unknown as Words).filter((text) => text.trim() === '')).toEqual([]);
  }
});

it('every language names every figure that it is given', () => {
  const figures = (words: unknown): string[] => said(words as Words).map((text) => (text.match(/1[123]/g) ?? []).sort().join());
  // English leaves a count out nowhere, and neither may the others.
  expect(figures(zhHans)).toEqual(figures(en));
  expect(figures(zhHant)).toEqual(figures(en));
});
