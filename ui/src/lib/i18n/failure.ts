// Why something did not work, in words for people where there are some; else as the gateway says it.
import type { ApiError } from '../api/client';
import type { Messages } from './en';

export function failureText(error: ApiError, m: Messages['errors']): string {
  switch (error.code) {
    case 'unreachable':
    case 'changed':
    case 'forbidden':
    case 'throttled':
    case 'upgrading':
      return m[error.code];
    default:
      return error.message || m.failed;
  }
}
