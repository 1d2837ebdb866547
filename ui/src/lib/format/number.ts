// Counts, shares and spans of time.

const whole = new Intl.NumberFormat('en-US');

export function count(value: number): string {
  return whole.format(value);
}

/** Short for large counts: 1234567 → 1.23M. */
export function brief(value: number): string {
  const size = Math.abs(value);
  for (const [unit, name] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e4, 'k']] as const) {
    if (size >= unit) return `${threeDigits(value / (name === 'k' ? 1e3 : unit))}${name}`;
  }
  return count(Math.round(value * 10) / 10);
}

function threeDigits(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toFixed(digits);
}

/** `part` of `all`; nothing of nothing is nothing. */
export function percent(part: number, all: number): string {
  if (all === 0) return '0%';
  const share = (part / all) * 100;
  if (share === 0 || share >= 10) return `${Math.round(share)}%`;
  return share < 0.1 ? '<0.1%' : `${share.toFixed(1)}%`;
}

/** How much more `now` is than `then`, in per cent; `null`: there is nothing to compare with. */
export function growth(now: number, then: number): number | null {
  return then === 0 ? null : Math.round(((now - then) / then) * 100);
}

/** A span in the unit that reads best. */
export function span(ms: number): string {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let size = value;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return at === 0 ? `${value} B` : `${threeDigits(size)} ${units[at]}`;
}
