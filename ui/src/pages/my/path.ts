// Where a key of one's own is.
export function pathOf({ id }: { id: string }): string {
  return `/api/keys/${encodeURIComponent(id)}`;
}
