/** Chooses the host: the desktop shell where it is present, sample data where it is asked for, else `embedbar serve`. */
import type { Platform } from './types';

export type { Connection, FileDrop, Method, Params, Platform, Reply, Watcher } from './types';
export { toFailure } from './failure';

export async function choosePlatform(window: Window): Promise<Platform> {
  if ('__TAURI_INTERNALS__' in window) {
    const { TauriPlatform } = await import('./tauri');
    return new TauriPlatform();
  }
  const search = new URLSearchParams(window.location.search);
  if (search.has('mock')) {
    const { MockPlatform } = await import('./mock');
    return new MockPlatform(search.get('mock') || 'calm', window.location);
  }
  const { HttpPlatform, takeToken } = await import('./http');
  const token = takeToken(window.location, window.history, window.sessionStorage);
  return new HttpPlatform(window.location.origin, token);
}
