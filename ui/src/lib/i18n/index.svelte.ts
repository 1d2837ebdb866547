// Which language is spoken. Each is a file of its own that is fetched when it is needed.
import { keep, kept } from '../kept.svelte';
import type { Messages } from './en';

export type Language = 'en' | 'zh-Hans' | 'zh-Hant';
export const LANGUAGES: readonly { code: Language; name: string }[] = [
  { code: 'en', name: 'English' },
  { code: 'zh-Hans', name: '简体中文' },
  { code: 'zh-Hant', name: '繁體中文' },
];

/** The language for what a browser asks for, in its order. */
export function choose(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const [primary, ...rest] = tag.toLowerCase().split('-');
    if (primary === 'en') return 'en';
    if (primary === 'zh') return rest.some((part) => ['hant', 'tw', 'hk', 'mo'].includes(part)) ? 'zh-Hant' : 'zh-Hans';
  }
  return 'en';
}

async function load(language: Language): Promise<Messages> {
  switch (language) {
    case 'en':
      return (await import('./en')).en;
    case 'zh-Hans':
      return (await import('./zh-Hans')).zhHans;
    case 'zh-Hant':
      return (await import('./zh-Hant')).zhHant;
  }
}

class Words {
  language = $state<Language>('en');
  #words = $state.raw<Messages | null>(null);

  /** The words. Nothing is shown before there are any. */
  get m(): Messages {
    if (!this.#words) throw new Error('no language is loaded');
    return this.#words;
  }

  async start(): Promise<void> {
    const language = LANGUAGES.find(({ code }) => code === kept('language'))?.code;
    await this.#speak(language ?? choose(navigator.languages));
  }

  async set(language: Language): Promise<void> {
    await this.#speak(language);
    keep('language', language);
  }

  async #speak(language: Language): Promise<void> {
    this.#words = await load(language);
    this.language = language;
    document.documentElement.lang = language;
  }
}

export const i18n = new Words();
