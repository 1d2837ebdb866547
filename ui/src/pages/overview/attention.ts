// What calls for somebody: where to look at it, and what is known of it, in words.
import type { Attention } from '../../lib/api/types';
import { exact, nanoOf } from '../../lib/format/money';
import { bytes, span } from '../../lib/format/number';
import type { Messages } from '../../lib/i18n/en';
import { to } from '../../lib/router.svelte';

export function placeOf({ kind, subject, values }: Attention): string {
  if (kind.startsWith('channel_')) return to('channels');
  if (kind.startsWith('budget_')) return holder(subject, values);
  return to('config');
}

/** Whose budget it is. */
function holder(subject: string | null, { of, id }: Attention['values']): string {
  const named: Record<string, string> = subject ? { q: subject } : {};
  if (of === 'channel') return to('channels');
  if (of === 'user') return to('users', undefined, named);
  return typeof id === 'string' ? to('keys', id) : to('keys', undefined, named);
}

/** The figures behind it. What is not known here is left out: a name of the API says nothing to people. */
export function factsOf({ values }: Attention, t: Messages['overview']['facts']): string[] {
  const number = (name: string): number | null => (typeof values[name] === 'number' ? (values[name] as number) : null);
  const text = (name: string): string => (typeof values[name] === 'string' ? (values[name] as string) : '');
  const list = (name: string): string => (Array.isArray(values[name]) ? values[name].join(', ') : '');
  const seconds = (name: string): string | null => {
    const value = number(name);
    return value === null ? null : span(value * 1000);
  };
  const say = <T extends string | number>(value: T | null, as: (value: T) => string): string => (value === null || value === '' ? '' : as(value));
  const of = t.of[text('of') as keyof typeof t.of];
  const period = t.periods[text('period') as keyof typeof t.periods];
  const [spent, budget] = [nanoOf(text('spent_usd')), nanoOf(text('budget_usd'))];
  return [
    of ?? '',
    spent === null || budget === null || !period ? '' : t.spent(period, exact(spent), exact(budget), number('percent') ?? 0),
    say(seconds('cooling_s'), t.cooling),
    say(list('keys'), t.keys),
    say(list('models'), t.models),
    say(number('dropped'), t.dropped),
    say(seconds('ago_s'), t.ago),
    say(number('failed'), t.failed),
    say(number('waiting'), t.waiting),
    say(seconds('stuck_s'), t.stuck),
    say(number('fold_lag_records'), t.behind),
    say(number('free_bytes'), (free) => t.free(bytes(free))),
    say(number('free_inodes'), t.freeFiles),
    say(number('mistakes'), t.mistakes),
    // These are the gateway's own words.
    text('first'),
    text('message'),
  ].filter((fact) => fact !== '');
}
