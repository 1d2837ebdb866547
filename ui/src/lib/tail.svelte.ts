// The newest records, as they come. Thousands may come in a second: they are shown a few times a second, and only as many
// as anybody can look at are kept.
import type { RequestRecord } from './api/types';

const SHOW_EVERY_MS = 250;
const FRESH_MS = 1_600;

export class Tail {
  rows = $state.raw<RequestRecord[]>([]);
  /** Ids of what has just come. */
  fresh = $state.raw<ReadonlySet<string>>(new Set());
  #waiting: RequestRecord[] = [];
  /** What has come since the newest were asked for. */
  #come: RequestRecord[] | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #fading: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly most: number) {}

  add(record: RequestRecord): void {
    this.#waiting.push(record);
    if (this.#waiting.length > this.most) this.#waiting.shift();
    if (this.#come?.push(record) === this.most + 1) this.#come.shift();
    this.#timer ??= setTimeout(() => this.#show(), SHOW_EVERY_MS);
  }

  /** Older records, which follow what is there; each once. */
  below(older: RequestRecord[]): void {
    const known = new Set(this.rows.map(({ id }) => id));
    this.rows = [...this.rows, ...older.filter(({ id }) => !known.has(id))];
  }

  /** The newest, in place of what is shown. What comes while they are on their way stays above them. */
  async renew<T extends { rows: RequestRecord[] }>(asked: Promise<T>): Promise<T> {
    const come: RequestRecord[] = [];
    this.#come = come;
    const found = await asked;
    if (this.#come !== come) return found;
    this.#come = null;
    const known = new Set(found.rows.map(({ id }) => id));
    this.rows = [...come.reverse().filter(({ id }) => !known.has(id)), ...found.rows];
    this.#waiting = [];
    return found;
  }

  clear(): void {
    this.rows = [];
    this.#waiting = [];
    this.#come = null;
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#fading);
    this.#timer = undefined;
  }

  #show(): void {
    this.#timer = undefined;
    const known = new Set(this.rows.map(({ id }) => id));
    const come = this.#waiting.reverse().filter(({ id }) => !known.has(id));
    this.#waiting = [];
    if (come.length === 0) return;
    this.rows = [...come, ...this.rows].slice(0, Math.max(this.most, 0));
    this.fresh = new Set(come.map(({ id }) => id));
    clearTimeout(this.#fading);
    this.#fading = setTimeout(() => (this.fresh = new Set()), FRESH_MS);
  }
}
