// Who is signed in. Nothing of it is kept by the browser but the cookie, which no script can read.
import { ApiError, get, holdSession, onSessionChanged, send } from './api/client';
import type { Session } from './api/types';

class SignedIn {
  /** `undefined`: not known yet. */
  now = $state.raw<Session | null | undefined>(undefined);
  failed = $state.raw<ApiError | null>(null);

  get isAdmin(): boolean {
    return this.now?.role === 'admin';
  }

  async look(): Promise<void> {
    this.failed = null;
    try {
      this.#take(await get<Session>('/admin/api/session'));
    } catch (error) {
      if (error instanceof ApiError && error.status !== 401) this.failed = error;
      this.#take(null);
    }
  }

  async signIn(by: { token: string } | { username: string; password: string }): Promise<void> {
    this.#take(await send<Session>('POST', '/admin/api/login', by));
  }

  /** Fails if the gateway does not end the session: its cookie would still let somebody in. */
  async signOut(): Promise<void> {
    try {
      await send<void>('POST', '/admin/api/logout');
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
    }
    this.#take(null);
  }

  #take(session: Session | null): void {
    holdSession(session);
    this.now = session;
  }

  /** The gateway knows of another session than this page, or of none. Whoever was not signed in is told by their sign-in. */
  change(session: Session | null): void {
    if (this.now) this.#take(session);
  }
}

export const session = new SignedIn();
onSessionChanged((now) => session.change(now));
