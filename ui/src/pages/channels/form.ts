// A channel as people write it into fields, and as the API takes it.
import type { Channel, Protocol } from '../../lib/api/types';
import { parseList, writeList } from '../../lib/format/globs';
import { type LimitTexts, limitsOf, textsOf, whole } from '../../lib/format/limits';
import { touched } from '../../lib/format/touched';

export interface KeyTexts {
  /** Of the row in the form alone. */
  id: number;
  name: string;
  value: string;
  /** It has a secret, which stays if no other is written. */
  kept: boolean;
}

export interface ChannelTexts {
  name: string;
  protocol: Protocol;
  base_url: string;
  models: string;
  model_map: string;
  keys: KeyTexts[];
  priority: string;
  weight: string;
  max_concurrency: string;
  on_disconnect: 'drain' | 'abort';
  inject_usage: boolean;
  timeouts: { connect: string; first_byte: string; idle: string };
  retry: { attempts: string; within: string; on: string };
  cooldown: { failures: string; for: string };
  limits: LimitTexts;
}

export const USUAL_URL: Record<Protocol, string> = {
  openai: 'https://api.openai.com',
  anthropic: 'https://api.anthropic.com',
  gemini: 'https://generativelanguage.googleapis.com',
};
export const USUAL_MODELS: Record<Protocol, string> = { openai: 'gpt-*, o3, o4-mini', anthropic: 'claude-*', gemini: 'gemini-*' };

export function textsOfChannel(channel: Channel | null): ChannelTexts {
  const number = (value: number | undefined): string => (value === undefined ? '' : String(value));
  return {
    name: channel?.name ?? '',
    protocol: channel?.protocol ?? 'openai',
    base_url: channel?.base_url ?? '',
    models: writeList(channel?.models ?? []),
    model_map: writeMap(channel?.model_map ?? {}),
    keys: (channel?.keys ?? [{ name: 'main' }]).map(({ name }, id) => ({ id, name, value: '', kept: channel !== null })),
    priority: number(channel?.priority),
    weight: number(channel?.weight),
    max_concurrency: number(channel?.max_concurrency),
    on_disconnect: channel?.on_disconnect ?? 'drain',
    inject_usage: channel?.inject_usage ?? true,
    timeouts: channel ? { ...channel.timeouts } : { connect: '', first_byte: '', idle: '' },
    retry: {
      attempts: number(channel?.retry.attempts),
      within: channel?.retry.within ?? '',
      on: writeList((channel?.retry.on ?? []).map(String)),
    },
    cooldown: { failures: number(channel?.cooldown.failures), for: channel?.cooldown.for ?? '' },
    limits: textsOf(channel?.limits ?? null),
  };
}

/** What is sent to change a channel: what was not touched is left out, so that a default stays one. */
export function changesOf(texts: ChannelTexts, before: Channel): Record<string, unknown> {
  return touched(fieldsOf(textsOfChannel(before), false), fieldsOf(texts, false));
}

/** What is sent. Of a new one the name, too; a key is sent without its secret where that stays. */
export function fieldsOf(texts: ChannelTexts, isNew: boolean): Record<string, unknown> {
  const some = (text: string): string | null => text.trim() || null;
  const { connect, first_byte, idle } = texts.timeouts;
  const on = parseList(texts.retry.on);
  return {
    ...(isNew ? { name: texts.name.trim() } : {}),
    protocol: texts.protocol,
    base_url: texts.base_url.trim(),
    models: parseList(texts.models),
    model_map: parseMap(texts.model_map),
    keys: texts.keys.map(({ name, value }) => ({ name: name.trim(), ...(value === '' ? {} : { value }) })),
    priority: whole(texts.priority),
    weight: whole(texts.weight),
    max_concurrency: whole(texts.max_concurrency),
    on_disconnect: texts.on_disconnect,
    inject_usage: texts.inject_usage,
    timeouts: { connect: some(connect), first_byte: some(first_byte), idle: some(idle) },
    retry: { attempts: whole(texts.retry.attempts), within: some(texts.retry.within), on: on.length > 0 ? on.map(whole) : null },
    cooldown: { failures: whole(texts.cooldown.failures), for: some(texts.cooldown.for) },
    limits: limitsOf(texts.limits),
  };
}

function writeMap(map: Record<string, string>): string {
  return Object.entries(map).map(([asked, sent]) => `${asked} = ${sent}`).join('\n');
}

/** `asked = sent`, one a line. A line without `=` is kept whole, so that the server refuses it by name. */
export function parseMap(text: string): Record<string, string> {
  const lines = text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf('=');
      return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
  );
}
