import { describe, expect, it } from 'vitest';
import type { Attention } from '../src/lib/api/types';
import { en } from '../src/lib/i18n/en';
import { zhHans } from '../src/lib/i18n/zh-Hans';
import { factsOf, placeOf } from '../src/pages/overview/attention';

const of = (kind: Attention['kind'], subject: string | null, values: Attention['values']): Attention => ({ kind, level: 'warning', subject, values });
const budget = (of: string, id: string | null = null) => ({ of, id, period: 'month', spent_usd: '4.5', budget_usd: '5', percent: 90 });

describe('what needs attention', () => {
  it('is looked at where it is', () => {
    expect(placeOf(of('budget_near', 'laptop', budget('key', 'k1')))).toBe('/admin/ui/keys/k1');
    expect(placeOf(of('budget_near', 'alice', budget('user')))).toBe('/admin/ui/users?q=alice');
    expect(placeOf(of('budget_spent', 'openai', budget('channel')))).toBe('/admin/ui/channels');
    expect(placeOf(of('channel_down', 'openai', {}))).toBe('/admin/ui/channels');
    expect(placeOf(of('disk_low', null, {}))).toBe('/admin/ui/config');
  });

  it('is told in the words of the language', () => {
    const near = of('budget_near', 'laptop', budget('key', 'k1'));
    expect(factsOf(near, en.overview.facts)).toEqual(['Key', 'This month $4.50 of $5.00 (90%)']);
    expect(factsOf(near, zhHans.overview.facts)).toEqual(['密钥', '本月已用 $4.50，共 $5.00（90%）']);
    const down = of('channel_down', 'openai', { state: 'cooling', cooling_s: 12, keys: ['main', 'spare'], models: ['gpt-*'] });
    expect(factsOf(down, en.overview.facts)).toEqual(['asked again in 12.0 s', 'keys: main, spare', 'nobody else serves gpt-*']);
  });

  it('names nothing of the API', () => {
    const values = {
      ...budget('user'), state: 'trial', cooling_s: 1, keys: ['a'], models: ['b'], dropped: 3, ago_s: 4, failed: 5, waiting: 6, stuck_s: 7,
      fold_lag_records: 8, free_bytes: 9000, free_inodes: 10, mistakes: 11, first: null, message: null, something_new: 12,
    };
    for (const words of [en, zhHans]) {
      const facts = factsOf(of('not_ready', null, values), words.overview.facts);
      expect(facts).toHaveLength(14);
      expect(facts.filter((fact) => /_|undefined|null/.test(fact))).toEqual([]);
    }
  });
});
