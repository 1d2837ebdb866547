// Money as whole numbers of billionths of a dollar. Nothing here passes through a fraction that a computer rounds.

const NANO_DIGITS = 9;

/** Every digit that counts, two behind the point at least: 3450000 → $0.00345. */
export function exact(nano: number | bigint): string {
  const { sign, whole, part } = split(BigInt(nano));
  return `${sign}$${grouped(whole)}.${part.replace(/0+$/, '').padEnd(2, '0')}`;
}

/** Short, for looking at: cents from a dollar on, else the first three digits that count. The exact figure goes beside. */
export function short(nano: number | bigint): string {
  const value = BigInt(nano);
  const size = value < 0n ? -value : value;
  if (size === 0n) return '$0.00';
  const digits = size >= 1_000_000_000n ? 2 : Math.max(2, NANO_DIGITS - size.toString().length + 3);
  return rounded(value, Math.min(NANO_DIGITS, digits));
}

/** Rounded half up to `digits` behind the point, zeros beyond cents left out. */
export function rounded(nano: bigint, digits: number): string {
  const unit = 10n ** BigInt(NANO_DIGITS - digits);
  const size = nano < 0n ? -nano : nano;
  const { sign, whole, part } = split(((size + unit / 2n) / unit) * unit);
  const kept = part.slice(0, digits).replace(/0+$/, '').padEnd(2, '0');
  return `${nano < 0n ? '-' : sign}$${grouped(whole)}.${kept}`;
}

function split(nano: bigint): { sign: string; whole: string; part: string } {
  const size = nano < 0n ? -nano : nano;
  const digits = size.toString().padStart(NANO_DIGITS + 1, '0');
  return { sign: nano < 0n ? '-' : '', whole: digits.slice(0, -NANO_DIGITS), part: digits.slice(-NANO_DIGITS) };
}

function grouped(whole: string): string {
  return whole.replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A decimal number of dollars as the API writes it, `"2.5"`, in billionths; `null`: it is none. */
export function nanoOf(decimal: string): bigint | null {
  const match = /^(\d+)(?:\.(\d{1,9}))?$/.exec(decimal.trim());
  if (!match) return null;
  return BigInt(match[1] + (match[2] ?? '').padEnd(NANO_DIGITS, '0'));
}

/** How much of `limit` is used, from 0 on; more than 1 is possible. */
export function share(used: string, limit: string): number {
  const [part, whole] = [nanoOf(used), nanoOf(limit)];
  if (part === null || whole === null) return 0;
  if (whole === 0n) return 1;
  return Number((part * 10_000n) / whole) / 10_000;
}

/** The cost of a row of usage: by billionths as long as a number holds them, else by millionths. */
export function costOf(row: { cost_micro_usd: number; cost_nano_usd?: number }): bigint {
  const nano = row.cost_nano_usd;
  if (nano !== undefined && Number.isSafeInteger(nano)) return BigInt(nano);
  return BigInt(row.cost_micro_usd) * 1_000n;
}
