// Which page is shown: the address below `/admin/ui/`, and its query, in which filters are kept.
export const BASE = '/admin/ui/';
const CONNECT_PATH = '/docs/proxy';

function read(): { path: string; query: URLSearchParams } {
  const { pathname, search } = window.location;
  const path = pathname === CONNECT_PATH ? 'connect' : pathname.startsWith(BASE) ? pathname.slice(BASE.length) : '';
  return { path: path.replace(/\/+$/, ''), query: new URLSearchParams(search) };
}

/** Kept with an address in the history: how many steps it is from the first. */
const placeIn = (state: unknown): number => (state as { at?: number } | null)?.at ?? 0;

class Router {
  path = $state('');
  query = $state.raw(new URLSearchParams());
  #at = 0;
  #returns = false;
  #mayLeave: (() => boolean) | null = null;

  start(): void {
    this.#at = placeIn(history.state);
    history.replaceState({ at: this.#at }, '');
    this.#take();
    window.addEventListener('popstate', (event) => this.#step(placeIn(event.state)));
    window.addEventListener('beforeunload', (event) => {
      if (this.#mayLeave) event.preventDefault();
    });
    document.addEventListener('click', (event) => {
      const link = (event.target as Element | null)?.closest?.('a');
      if (!link || event.defaultPrevented || event.button !== 0) return;
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      if (link.target || link.hasAttribute('download') || link.origin !== window.location.origin) return;
      if (!link.pathname.startsWith(BASE) || link.hash) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(address: string): void {
    const isOther = address !== window.location.pathname + window.location.search;
    if (isOther && !this.mayLeave()) return;
    if (isOther) history.pushState({ at: ++this.#at }, '', address);
    this.#take();
    window.scrollTo(0, 0);
  }

  /** Has the page left only if `ask` says so, until what is returned is called. */
  hold(ask: () => boolean): () => void {
    this.#mayLeave = ask;
    return () => {
      if (this.#mayLeave === ask) this.#mayLeave = null;
    };
  }

  mayLeave(): boolean {
    return this.#mayLeave?.() ?? true;
  }

  /** Other filters on the same page: no step back for each letter. */
  filter(query: Record<string, string>): void {
    const pairs = Object.entries(query).filter(([, value]) => value !== '');
    const text = new URLSearchParams(pairs).toString();
    history.replaceState({ at: this.#at }, '', text ? `?${text}` : window.location.pathname);
    this.query = new URLSearchParams(text);
  }

  /** The browser has gone a step back or forth already: who wants to stay is brought back. */
  #step(at: number): void {
    const isReturn = this.#returns;
    this.#returns = false;
    if (isReturn && at === this.#at) return;
    if (at !== this.#at && !this.mayLeave()) {
      this.#returns = true;
      history.go(this.#at - at);
      return;
    }
    this.#at = at;
    this.#take();
  }

  #take(): void {
    const { path, query } = read();
    this.path = path;
    this.query = query;
  }
}

export const router = new Router();

/** The address of a page; the parts of its path may hold anything. */
export function to(page: string, part?: string, query?: Record<string, string>): string {
  const path = BASE + page + (part === undefined ? '' : `/${encodeURIComponent(part)}`);
  const text = query ? new URLSearchParams(query).toString() : '';
  return text ? `${path}?${text}` : path;
}
