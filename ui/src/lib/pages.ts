// Every page: its address, who may see it, and the piece of the program that shows it, fetched when it is needed.
import type { Component } from 'svelte';
import type { Role } from './api/types';
import type { IconName } from './parts/Icon.svelte';

export type PageName =
  | 'overview' | 'keys' | 'channels' | 'requests' | 'usage' | 'users' | 'prices' | 'config' | 'connect' | 'myUsage' | 'myKeys';

export interface PageProps {
  /** What follows the page's name in the address. */
  part: string | null;
}

interface Place {
  path: string;
  roles: readonly Role[];
  icon: IconName;
  load: () => Promise<{ default: Component<PageProps> }>;
}

const ADMIN: readonly Role[] = ['admin'];
const USER: readonly Role[] = ['user'];

export const PAGES: Record<PageName, Place> = {
  overview: { path: '', roles: ADMIN, icon: 'overview', load: () => import('../pages/Overview.svelte') },
  requests: { path: 'requests', roles: ADMIN, icon: 'requests', load: () => import('../pages/Requests.svelte') },
  usage: { path: 'usage', roles: ADMIN, icon: 'usage', load: () => import('../pages/Usage.svelte') },
  keys: { path: 'keys', roles: ADMIN, icon: 'keys', load: () => import('../pages/Keys.svelte') },
  channels: { path: 'channels', roles: ADMIN, icon: 'channels', load: () => import('../pages/Channels.svelte') },
  users: { path: 'users', roles: ADMIN, icon: 'users', load: () => import('../pages/Users.svelte') },
  prices: { path: 'prices', roles: ADMIN, icon: 'prices', load: () => import('../pages/Prices.svelte') },
  config: { path: 'config', roles: ADMIN, icon: 'config', load: () => import('../pages/Config.svelte') },
  myUsage: { path: 'my/usage', roles: USER, icon: 'usage', load: () => import('../pages/MyUsage.svelte') },
  myKeys: { path: 'my/keys', roles: USER, icon: 'keys', load: () => import('../pages/MyKeys.svelte') },
  connect: { path: 'connect', roles: ['admin', 'user'], icon: 'connect', load: () => import('../pages/Connect.svelte') },
};

export const GROUPS: Record<Role, { name: 'observe' | 'manage' | null; pages: PageName[] }[]> = {
  admin: [
    { name: 'observe', pages: ['overview', 'requests', 'usage'] },
    { name: 'manage', pages: ['keys', 'channels', 'users', 'prices', 'config', 'connect'] },
  ],
  user: [{ name: null, pages: ['myUsage', 'myKeys', 'connect'] }],
};

/** What is shown at an address, to whom. */
export function find(path: string, role: Role): { name: PageName; part: string | null } | 'forbidden' | null {
  if (path === '') return { name: role === 'admin' ? 'overview' : 'myUsage', part: null };
  for (const [name, place] of Object.entries(PAGES) as [PageName, Place][]) {
    if (place.path === '' || !(path === place.path || path.startsWith(`${place.path}/`))) continue;
    if (!place.roles.includes(role)) return 'forbidden';
    const rest = path.slice(place.path.length + 1);
    return { name, part: rest === '' ? null : decode(rest) };
  }
  return null;
}

/** Begins to fetch the page at an address while it is still asked who is there. Most of those who sign in are administrators. */
export function early(path: string): void {
  const found = [find(path, 'admin'), find(path, 'user')].find((place) => place !== null && place !== 'forbidden');
  // Whoever shows the page fetches it again and tells what went wrong.
  if (found) PAGES[found.name].load().catch(() => undefined);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
