// Limits as people write them into fields, and as the API takes them: what is empty is no limit.
import type { Limits } from '../api/types';

export interface LimitTexts {
  rpm: string;
  tpm: string;
  concurrency: string;
  day: string;
  month: string;
  total: string;
}

export function textsOf(limits: Limits | null): LimitTexts {
  const text = (value: number | string | null | undefined): string => (value === null || value === undefined ? '' : String(value));
  const { day, month, total } = limits?.budget_usd ?? {};
  return { rpm: text(limits?.rpm), tpm: text(limits?.tpm), concurrency: text(limits?.concurrency), day: text(day), month: text(month), total: text(total) };
}

/** What was written is sent as it is where it is no number: the server says what is wrong with it. */
export function whole(text: string): number | string | null {
  const trimmed = text.trim();
  if (trimmed === '') return null;
  return /^\d{1,15}$/.test(trimmed) ? Number(trimmed) : trimmed;
}

export function limitsOf(texts: LimitTexts): Record<string, unknown> {
  const money = (text: string): string | null => (text.trim() === '' ? null : text.trim());
  return {
    rpm: whole(texts.rpm),
    tpm: whole(texts.tpm),
    concurrency: whole(texts.concurrency),
    budget_usd: { day: money(texts.day), month: money(texts.month), total: money(texts.total) },
  };
}
