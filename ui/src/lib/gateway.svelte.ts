// Where clients reach the gateway, and what models they may ask for: for snippets.
import { get } from './api/client';
import type { Channel, Config, OwnModel, Page, Protocol } from './api/types';
import { exampleOf } from './format/globs';
import { keep, kept } from './kept.svelte';
import { session } from './session.svelte';

const FALLBACK: Record<Protocol, string> = { openai: 'gpt-4o-mini', anthropic: 'claude-sonnet-4-5', gemini: 'gemini-2.5-flash' };

class Gateway {
  base = $state(kept('gateway') ?? `http://${window.location.hostname}:8514`);
  models = $state.raw<Record<Protocol, string[]>>({ openai: [], anthropic: [], gemini: [] });
  #looked = false;

  set(base: string): void {
    this.base = base.trim().replace(/\/+$/, '');
    keep('gateway', this.base);
  }

  /** A model of this protocol that should work. */
  example(protocol: Protocol): string {
    return this.models[protocol][0] ?? FALLBACK[protocol];
  }

  /** Asks once. Who may not know gets the usual address and well-known models. */
  async look(): Promise<void> {
    if (this.#looked || !session.now) return;
    this.#looked = true;
    await Promise.allSettled(session.isAdmin ? [this.#address(), this.#channels()] : [this.#own()]);
  }

  async #address(): Promise<void> {
    if (kept('gateway')) return;
    const { running } = await get<Config>('/admin/api/config');
    this.base = addressOf(running, window.location.hostname) ?? this.base;
  }

  async #channels(): Promise<void> {
    const { rows } = await get<Page<Channel>>('/admin/api/channels', { limit: 100 });
    const models: Record<Protocol, string[]> = { openai: [], anthropic: [], gemini: [] };
    for (const { protocol, models: globs } of rows) {
      for (const glob of globs) {
        const name = exampleOf(glob);
        if (name && !models[protocol].includes(name)) models[protocol].push(name);
      }
    }
    this.models = models;
  }

  async #own(): Promise<void> {
    const { rows } = await get<{ rows: OwnModel[] }>('/api/usage/models');
    const names = rows.map(({ model }) => exampleOf(model)).filter((name) => name !== '');
    const of = (start: string): string[] => names.filter((name) => name.startsWith(start));
    const [anthropic, gemini] = [of('claude'), of('gemini')];
    const openai = names.filter((name) => !anthropic.includes(name) && !gemini.includes(name) && !/embed/.test(name));
    this.models = { openai, anthropic, gemini };
  }
}

/** The first listener of a configuration, as another machine would write it. */
export function addressOf(running: Record<string, unknown>, host: string): string | null {
  const listen = Array.isArray(running.listen) ? (running.listen[0] as { address?: unknown; tls?: unknown } | undefined) : undefined;
  if (typeof listen?.address !== 'string') return null;
  const port = /:(\d+)$/.exec(listen.address)?.[1];
  const bound = listen.address.slice(0, listen.address.lastIndexOf(':'));
  const open = bound === '0.0.0.0' || bound === '[::]' || bound === '';
  return `${listen.tls ? 'https' : 'http'}://${open ? host : bound}:${port ?? '8514'}`;
}

export const gateway = new Gateway();
