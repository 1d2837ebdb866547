// A key as people write it into fields, and as the API takes it.
import type { Key, Protocol } from '../../lib/api/types';
import { parseList, writeList } from '../../lib/format/globs';
import { type LimitTexts, limitsOf, textsOf } from '../../lib/format/limits';
import { fromInput, toInput } from '../../lib/format/time';

export const PROTOCOLS: readonly (readonly [Protocol, string])[] = [['openai', 'OpenAI'], ['anthropic', 'Anthropic'], ['gemini', 'Gemini']];

export interface KeyTexts {
  name: string;
  user: string;
  expires: string;
  protocols: Protocol[];
  models: string;
  channels: string;
  limits: LimitTexts;
}

/** `user`: whose a new one is to be. */
export function textsOfKey(key: Key | null, user = ''): KeyTexts {
  return {
    name: key?.name ?? '',
    user: key ? (key.user ?? '') : user,
    expires: toInput(key?.expires ?? null),
    protocols: [...(key?.protocols ?? [])],
    models: writeList(key?.models ?? []),
    channels: writeList(key?.channels ?? []),
    limits: textsOf(key?.limits ?? null),
  };
}

export function fieldsOf(texts: KeyTexts): Record<string, unknown> {
  // An empty list would be a mistake; what is not given is not limited.
  const some = <T,>(list: T[]): T[] | null => (list.length > 0 ? list : null);
  return {
    name: texts.name.trim(),
    user: texts.user.trim() || null,
    expires: fromInput(texts.expires),
    protocols: some(PROTOCOLS.map(([protocol]) => protocol).filter((protocol) => texts.protocols.includes(protocol))),
    models: some(parseList(texts.models)),
    channels: some(parseList(texts.channels)),
    limits: limitsOf(texts.limits),
  };
}
