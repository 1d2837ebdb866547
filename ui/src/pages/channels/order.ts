// In which order channels are asked, and what becomes of it when one is moved. Only those that were made over the API move;
// those of the file keep the priority that is written there.
import type { Channel } from '../../lib/api/types';

export const canMove = (channel: Channel): boolean => channel.origin === 'api' && !channel.shadowed;

/** Names of those that can be moved, in their order. */
export function movable(rows: readonly Channel[]): string[] {
  return inOrder(rows, null).filter(canMove).map(({ name }) => name);
}

/** The rows as they are asked; `names`: as they would be if this order were in force. */
export function inOrder(rows: readonly Channel[], names: readonly string[] | null): Channel[] {
  const place = (channel: Channel): number => {
    const at = names && canMove(channel) ? names.indexOf(channel.name) : -1;
    return at < 0 ? channel.priority : at;
  };
  // A shadowed one is asked never.
  return [...rows].sort((a, b) => Number(a.shadowed) - Number(b.shadowed) || place(a) - place(b));
}

export function moved(names: readonly string[], name: string, to: number): string[] {
  const others = names.filter((other) => other !== name);
  others.splice(Math.max(0, Math.min(others.length, to)), 0, name);
  return others;
}
