// What the browser keeps from visit to visit: looks and addresses, never a secret.

export function kept(name: string): string | null {
  try {
    return localStorage.getItem(`weir.${name}`);
  } catch {
    return null;
  }
}

export function keep(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`weir.${name}`);
    else localStorage.setItem(`weir.${name}`, value);
  } catch {
    // A browser that keeps nothing serves as well.
  }
}

export type Theme = 'system' | 'light' | 'dark';

class Looks {
  theme = $state<Theme>('system');
  #system = window.matchMedia('(prefers-color-scheme: dark)');
  #systemDark = $state(this.#system.matches);

  constructor() {
    const theme = kept('theme');
    if (theme === 'light' || theme === 'dark') this.theme = theme;
    this.#system.addEventListener('change', (event) => (this.#systemDark = event.matches));
    this.#show();
  }

  get isDark(): boolean {
    return this.theme === 'dark' || (this.theme === 'system' && this.#systemDark);
  }

  set(theme: Theme): void {
    this.theme = theme;
    keep('theme', theme === 'system' ? null : theme);
    this.#show();
  }

  #show(): void {
    if (this.theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
  }
}

export const looks = new Looks();
