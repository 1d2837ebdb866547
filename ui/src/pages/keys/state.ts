// What may be said of a key at a glance.
import type { Key } from '../../lib/api/types';
import type { Messages } from '../../lib/i18n/en';

export function stateOf(key: Key, t: Messages['keys'], now: number = Date.now()): { tone: 'good' | 'warn' | ''; text: string } {
  if (!key.enabled) return { tone: '', text: t.disabled };
  if (key.expires !== null && Date.parse(key.expires) <= now) return { tone: 'warn', text: t.expired };
  return { tone: 'good', text: t.enabled };
}

/** The path of a key in the API. */
export const pathOf = (key: Key): string => `/admin/api/keys/${encodeURIComponent(key.id)}`;
