import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Live } from '../src/lib/api/live.svelte';

/** The stream as the browser has it, without a gateway behind it. */
class Source {
  static all: Source[] = [];
  onopen: () => void = () => {};
  onerror: () => void = () => {};
  constructor() {
    Source.all.push(this);
  }
  static get last(): Source {
    return Source.all.at(-1) as Source;
  }
  addEventListener(): void {}
  close(): void {}
}

let page: { hidden: boolean; seen: () => void };

beforeEach(() => {
  vi.useFakeTimers();
  Source.all = [];
  page = { hidden: false, seen: () => {} };
  vi.stubGlobal('EventSource', Source);
  vi.stubGlobal('fetch', async () => new Response('{}'));
  vi.stubGlobal('document', {
    get hidden() {
      return page.hidden;
    },
    addEventListener: (_: string, heard: () => void) => (page.seen = heard),
    removeEventListener: () => {},
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function show(hidden: boolean): void {
  page.hidden = hidden;
  page.seen();
}

describe('a stream', () => {
  it('that opens at once has missed nothing', () => {
    const again = vi.fn();
    new Live({}, again).start();
    Source.last.onopen();
    expect(again).not.toHaveBeenCalled();
  });

  it('says so when it is open again after nobody looked', () => {
    const again = vi.fn();
    new Live({}, again).start();
    Source.last.onopen();
    show(true);
    show(false);
    expect(again).not.toHaveBeenCalled();
    Source.last.onopen();
    expect(again).toHaveBeenCalledTimes(1);
  });

  it('says so when it is open after it broke, or opened late', async () => {
    const again = vi.fn();
    new Live({}, again).start();
    Source.last.onerror();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(Source.all).toHaveLength(2);
    Source.last.onopen();
    expect(again).toHaveBeenCalledTimes(1);

    page.hidden = true;
    const late = vi.fn();
    new Live({}, late).start();
    show(false);
    Source.last.onopen();
    expect(late).toHaveBeenCalledTimes(1);
  });
});
