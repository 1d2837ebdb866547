// What happens, as it happens: the gateway's stream of events, and coming back to it when it breaks.
//
// A page that nobody looks at holds no connection: browsers allow few of them to one server.
import { ApiError, get, url, type Query } from './client';
import type { Session } from './types';

export type LiveState = 'off' | 'connecting' | 'open' | 'waiting';
export type Heard = (data: unknown) => void;

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

/** How long to wait before the `failures`-th attempt in a row; `chance` in [0, 1) spreads the clients of a restart. */
export function backoff(failures: number, chance: number): number {
  const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(failures - 1, 10));
  return Math.round(full / 2 + (full / 2) * chance);
}

export class Live {
  state = $state<LiveState>('off');
  #source: EventSource | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #query: Query = {};
  #wanted = false;
  /** Something may have happened that was not heard since it was wanted. */
  #late = false;

  /** `again`: it is open after a time in which nothing was heard. What happened then has to be asked for. */
  constructor(
    private readonly heard: Record<string, Heard>,
    private readonly again: () => void,
  ) {}

  /** Listens, to what `query` lets through, until the function that is returned is called. */
  start(query: Query = {}): () => void {
    this.#query = query;
    this.#wanted = true;
    this.#failures = 0;
    this.#late = document.hidden;
    document.addEventListener('visibilitychange', this.#seen);
    this.#connect();
    return () => {
      this.#wanted = false;
      document.removeEventListener('visibilitychange', this.#seen);
      this.#close('off');
    };
  }

  #seen = (): void => {
    if (document.hidden) {
      this.#late = true;
      this.#close('off');
    } else if (!this.#source) this.#connect();
  };

  #close(state: LiveState): void {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.state = state;
  }

  #connect(): void {
    this.#close('connecting');
    if (!this.#wanted || document.hidden) return;
    const source = new EventSource(url('/admin/api/events', this.#query));
    this.#source = source;
    source.onopen = () => {
      this.#failures = 0;
      this.state = 'open';
      if (this.#late) this.again();
      this.#late = true;
    };
    source.onerror = () => this.#broke();
    for (const [name, heard] of Object.entries(this.heard)) {
      source.addEventListener(name, (event) => {
        try {
          heard(JSON.parse((event as MessageEvent<string>).data));
        } catch {
          // A piece that is no JSON is no event of ours.
        }
      });
    }
  }

  /** The browser's own way back neither slows down nor survives an answer such as 503. */
  #broke(): void {
    this.#failures += 1;
    this.#late = true;
    this.#close('waiting');
    this.#timer = setTimeout(() => void this.#retry(), backoff(this.#failures, Math.random()));
  }

  async #retry(): Promise<void> {
    try {
      // An event source does not tell a session that is gone from a gateway that is.
      await get<Session>('/admin/api/session');
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return this.#close('off');
    }
    if (this.#wanted) this.#connect();
  }
}
