// Asks the API. Owns the session's CSRF token, in memory alone, and the one form of a failure. The credential itself is
// a cookie that no script can read.
import type { Mistake, Session } from './types';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string | null = null,
    readonly mistakes: FieldMistake[] = [],
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

export interface FieldMistake {
  field: string;
  message: string;
}

type Value = string | number | boolean | null | undefined;
export type Query = Record<string, Value>;

let csrf = '';
let changed: (session: Session | null) => void = () => {};

/** What follows when the session is gone, or is another one than was known here. */
export function onSessionChanged(then: (session: Session | null) => void): void {
  changed = then;
}

export function holdSession(session: Session | null): void {
  csrf = session?.csrf ?? '';
}

/** A path with its query; empty values are left out. */
export function url(path: string, query: Query = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const text = new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

export function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return ask<T>('GET', url(path, query), undefined, { signal });
}

export interface Options {
  /** Sent as `If-Match`: refused with 412 if someone else was faster. */
  etag?: string | null;
  signal?: AbortSignal;
}

export function send<T>(method: string, path: string, body?: unknown, options: Options = {}): Promise<T> {
  return ask<T>(method, path, body, options);
}

async function ask<T>(method: string, path: string, body: unknown, options: Options): Promise<T> {
  try {
    return await askOnce<T>(method, path, body, options);
  } catch (error) {
    // Who signs in anew in another tab has another token there, and this tab the same cookie.
    if (!(error instanceof ApiError) || error.code !== 'csrf' || !(await renewed())) throw error;
    return askOnce<T>(method, path, body, options);
  }
}

/** Whether there is a session, and its token is known now. */
async function renewed(): Promise<boolean> {
  try {
    changed(await askOnce<Session>('GET', '/admin/api/session', undefined, {}));
    return true;
  } catch {
    return false;
  }
}

async function askOnce<T>(method: string, path: string, body: unknown, options: Options): Promise<T> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (method !== 'GET' && csrf) headers['x-weir-csrf'] = csrf;
  if (options.etag) headers['if-match'] = options.etag;
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: options.signal ?? null,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'unreachable', 'the gateway cannot be reached');
  }
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  const parsed = parse(text);
  if (response.ok) return parsed as T;
  if (response.status === 401) changed(null);
  throw refusal(response, parsed);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refusal(response: Response, body: unknown): ApiError {
  const error = (body as { error?: Record<string, unknown> } | null)?.error ?? {};
  const field = typeof error.field === 'string' ? error.field : null;
  const message = typeof error.message === 'string' ? error.message : `${response.status} ${response.statusText}`;
  const listed = Array.isArray(error.mistakes) ? error.mistakes : [];
  const mistakes = listed.flatMap((mistake: unknown): FieldMistake[] => {
    if (typeof mistake === 'string') return [{ field: '', message: mistake }];
    const { field, message } = mistake as Partial<FieldMistake>;
    return message ? [{ field: field ?? '', message }] : [];
  });
  if (mistakes.length === 0 && field) mistakes.push({ field, message });
  const after = Number(response.headers.get('retry-after'));
  const code = typeof error.code === 'string' ? error.code : 'failed';
  return new ApiError(response.status, code, message, field, mistakes, after > 0 ? after : null);
}

/** A mistake in a configuration, with its place. */
export function mistakeText(mistake: Mistake | string): string {
  if (typeof mistake === 'string') return mistake;
  const { line, column, message } = mistake;
  return line === null ? message : `${line}:${column ?? 1}: ${message}`;
}
