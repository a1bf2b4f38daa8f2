/** A browser in front of `embedbar serve`: commands by POST, snapshots as a stream of server-sent events. */
import type { Failure, Snapshot } from '../contract/contract';
import { onPageDrop } from './drop';
import { backoff, toFailure } from './failure';
import { libraryPage, mainPage, onLook } from './look';
import { onWindowShown } from './shown';
import { EventStreamParser } from './sse';
import type { FileDrop, Method, Params, Platform, Reply, Watcher } from './types';

const TOKEN_KEY = 'embedbar-token';

/**
 * The token from `#token=…`, which then leaves the address bar; later loads of the tab find it in the session's storage.
 * A fragment is never sent to a server and a session's storage ends with its tab.
 */
export function takeToken(location: Location, history: History, storage: Storage): string | null {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get('token');
  if (token) {
    storage.setItem(TOKEN_KEY, token);
    fragment.delete('token');
    const rest = fragment.toString();
    history.replaceState(history.state, '', location.pathname + location.search + (rest ? `#${rest}` : ''));
  }
  return token || storage.getItem(TOKEN_KEY);
}

function unreachable(base: string): Failure {
  return {
    code: 'io',
    message: `Embedbar does not answer at \`${base}\``,
    hint: 'Start it again with `embedbar serve` and open the address that it prints.',
    retryable: true,
  };
}

async function refusal(response: Response): Promise<Failure> {
  const body = await response.text().catch(() => '');
  try {
    const failure: unknown = JSON.parse(body);
    if (typeof failure === 'object' && failure !== null && 'code' in failure && 'message' in failure) {
      return toFailure(failure);
    }
  } catch {
    // Not JSON: what follows says as much as the status does.
  }
  if (response.status === 401 || response.status === 403) {
    return {
      code: 'invalid_request',
      message: '`embedbar serve` did not accept this page’s token',
      hint: 'Open the address that `embedbar serve` printed when it started; it carries the token.',
      retryable: false,
    };
  }
  return {
    code: 'internal',
    message: `the server answered with status \`${response.status}\``,
    hint: null,
    retryable: response.status >= 500,
  };
}

export class HttpPlatform implements Platform {
  readonly kind = 'browser';
  readonly canHide = false;
  readonly #base: string;
  readonly #token: string | null;
  readonly #fetch: typeof fetch;

  constructor(base: string, token: string | null, fetchFunction: typeof fetch = (...request) => fetch(...request)) {
    this.#base = base.replace(/\/$/, '');
    this.#token = token;
    this.#fetch = fetchFunction;
  }

  #headers(more: Record<string, string>): Record<string, string> {
    return this.#token ? { ...more, Authorization: `Bearer ${this.#token}` } : more;
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await this.#fetch(this.#base + path, { ...init, cache: 'no-store', credentials: 'omit' });
    } catch {
      throw unreachable(this.#base);
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async call<M extends Method>(method: M, params: Params<M>): Promise<Reply<M>> {
    const response = await this.#request(`/api/call/${method}`, {
      method: 'POST',
      headers: this.#headers({ 'Content-Type': 'application/json', Accept: 'application/json' }),
      body: JSON.stringify(params),
    });
    try {
      return (await response.json()) as Reply<M>;
    } catch (error) {
      throw toFailure(error);
    }
  }

  watch(watcher: Watcher): () => void {
    const abort = new AbortController();
    watcher.connection({ state: 'connecting' });
    void this.#keepStreaming(watcher, abort.signal);
    return () => abort.abort();
  }

  async #keepStreaming(watcher: Watcher, signal: AbortSignal): Promise<void> {
    let attempt = 0;
    while (!signal.aborted) {
      let failure = unreachable(this.#base);
      try {
        await this.#stream(signal, (snapshot) => {
          attempt = 0;
          watcher.connection({ state: 'live' });
          watcher.snapshot(snapshot);
        });
      } catch (error) {
        failure = toFailure(error);
      }
      if (signal.aborted) return;
      watcher.connection({ state: 'lost', failure });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, backoff(attempt++));
        signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
      });
    }
  }

  async #stream(signal: AbortSignal, onSnapshot: (snapshot: Snapshot) => void): Promise<void> {
    const headers = this.#headers({ Accept: 'text/event-stream' });
    const response = await this.#request('/api/events', { headers, signal });
    const reader = response.body?.getReader();
    if (!reader) throw unreachable(this.#base);
    const decoder = new TextDecoder();
    const parser = new EventStreamParser();
    for (;;) {
      let piece: ReadableStreamReadResult<Uint8Array>;
      try {
        piece = await reader.read();
      } catch {
        throw unreachable(this.#base);
      }
      if (piece.done || signal.aborted) return;
      const events = parser.push(decoder.decode(piece.value, { stream: true }));
      // The latest snapshot wins: a tab that slept need not draw those in between.
      const latest = events.findLast(({ event }) => event === 'snapshot' || event === 'message');
      if (latest) onSnapshot(JSON.parse(latest.data) as Snapshot);
    }
  }

  async hideWindow(): Promise<void> {}

  onShown(callback: () => void): () => void {
    return onWindowShown(callback);
  }

  onFilesDropped(callback: (event: FileDrop) => void): () => void {
    return onPageDrop(callback);
  }

  async openLibrary(source: string | null): Promise<void> {
    window.location.assign(libraryPage(window.location.search, source));
  }

  readonly leaveLibrary = () => window.location.assign(mainPage(window.location.search));

  onLook(callback: (source: string) => void): () => void {
    return onLook(callback);
  }
}
