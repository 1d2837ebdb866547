import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { send } from '../src/lib/api/client';
import { session } from '../src/lib/session.svelte';

type Answer = { status: number; body?: unknown } | 'down';
interface Asked { method: string; path: string; csrf: string | undefined }

let asked: Asked[];
let answers: Record<string, Answer[]>;

beforeEach(() => {
  asked = [];
  answers = {};
  vi.stubGlobal('fetch', async (path: string, { method, headers }: { method: string; headers: Record<string, string> }) => {
    asked.push({ method, path, csrf: headers['x-weir-csrf'] });
    const answer = answers[`${method} ${path}`]?.shift() ?? { status: 404 };
    if (answer === 'down') throw new TypeError('down');
    return new Response(answer.body === undefined ? null : JSON.stringify(answer.body), { status: answer.status });
  });
});
afterEach(() => vi.unstubAllGlobals());

const of = (csrf: string, user: string | null = null) => ({ role: user ? 'user' : 'admin', user, csrf, expires: '2027-01-01T00:00:00Z' });
const refused = (status: number, code: string): Answer => ({ status, body: { error: { code, message: code } } });
const [LOOK, OUT, KEYS] = ['GET /admin/api/session', 'POST /admin/api/logout', 'POST /admin/api/keys'];

async function signedIn(): Promise<void> {
  answers[LOOK] = [{ status: 200, body: of('one') }];
  await session.look();
  asked = [];
}

describe('signing out', () => {
  beforeEach(signedIn);

  it('ends the session here when the gateway has ended it', async () => {
    answers[OUT] = [{ status: 204 }];
    await session.signOut();
    expect(session.now).toBeNull();
  });

  it('ends it here, too, when there was none any more', async () => {
    answers[OUT] = [refused(401, 'unauthorized')];
    await session.signOut();
    expect(session.now).toBeNull();
  });

  it.each<[string, Answer]>([['upgrading', refused(409, 'upgrading')], ['unreachable', 'down']])('that fails is told, and nobody is signed out: %s', async (code, answer) => {
    answers[OUT] = [answer];
    await expect(session.signOut()).rejects.toMatchObject({ code });
    expect(session.now?.csrf).toBe('one');
  });
});

describe('a token that is out of date since another tab signed in', () => {
  beforeEach(signedIn);

  it('is fetched anew, with whoever is signed in now, and the request sent once more', async () => {
    answers[KEYS] = [refused(403, 'csrf'), { status: 200, body: { id: 'k' } }];
    answers[LOOK] = [{ status: 200, body: of('two', 'ursula') }];
    expect(await send('POST', '/admin/api/keys', {})).toEqual({ id: 'k' });
    expect(asked.map(({ path, csrf }) => [path, csrf])).toEqual([
      ['/admin/api/keys', 'one'], ['/admin/api/session', undefined], ['/admin/api/keys', 'two'],
    ]);
    expect(session.now).toMatchObject({ role: 'user', user: 'ursula' });
  });

  it('is fetched anew once', async () => {
    answers[KEYS] = [refused(403, 'csrf'), refused(403, 'csrf')];
    answers[LOOK] = [{ status: 200, body: of('two') }];
    await expect(send('POST', '/admin/api/keys', {})).rejects.toMatchObject({ code: 'csrf' });
    expect(asked).toHaveLength(3);
  });

  it('leads to the sign-in when the session is gone', async () => {
    answers[KEYS] = [refused(403, 'csrf')];
    answers[LOOK] = [refused(401, 'unauthorized')];
    await expect(send('POST', '/admin/api/keys', {})).rejects.toMatchObject({ code: 'csrf' });
    expect(session.now).toBeNull();
  });
});
