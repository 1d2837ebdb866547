// Which page is shown: the address below `/admin/ui/`, and its query, in which filters are kept.
export const BASE = '/admin/ui/';
const CONNECT_PATH = '/docs/proxy';

function read(): { path: string; query: URLSearchParams } {
  const { pathname, search } = window.location;
  const path = pathname === CONNECT_PATH ? 'connect' : pathname.startsWith(BASE) ? pathname.slice(BASE.length) : '';
  return { path: path.replace(/\/+$/, ''), query: new URLSearchParams(search) };
}

class Router {
  path = $state('');
  query = $state.raw(new URLSearchParams());

  start(): void {
    this.#take();
    window.addEventListener('popstate', () => this.#take());
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
    if (address !== window.location.pathname + window.location.search) history.pushState(null, '', address);
    this.#take();
    window.scrollTo(0, 0);
  }

  /** Other filters on the same page: no step back for each letter. */
  filter(query: Record<string, string>): void {
    const pairs = Object.entries(query).filter(([, value]) => value !== '');
    const text = new URLSearchParams(pairs).toString();
    history.replaceState(null, '', text ? `?${text}` : window.location.pathname);
    this.query = new URLSearchParams(text);
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
