// A question to the API and what became of it. A newer question puts an end to an older one.
import { ApiError } from './api/client';

export class Loaded<T> {
  data = $state.raw<T | null>(null);
  error = $state.raw<ApiError | null>(null);
  busy = $state(false);
  #asked: AbortController | null = null;

  async run(ask: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.#asked?.abort();
    const asked = new AbortController();
    this.#asked = asked;
    this.busy = true;
    try {
      const data = await ask(asked.signal);
      if (this.#asked !== asked) return;
      this.data = data;
      this.error = null;
    } catch (error) {
      if (this.#asked !== asked || asked.signal.aborted) return;
      this.error = asApiError(error);
    }
    this.busy = false;
  }

  stop(): void {
    this.#asked?.abort();
    this.#asked = null;
    this.busy = false;
  }
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, 'failed', error instanceof Error ? error.message : String(error));
}
