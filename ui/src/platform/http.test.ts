import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Failure, Snapshot } from '../contract/contract';
import { HttpPlatform, takeToken } from './http';
import { sampleSnapshot } from './mock';
import type { Connection } from './types';

const BASE = 'http://127.0.0.1:7744';

function stream(...pieces: Uint8Array[]): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
  return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
}

function event(snapshot: Snapshot): Uint8Array {
  return new TextEncoder().encode(`event: snapshot\ndata: ${JSON.stringify(snapshot)}\n\n`);
}

function recorder() {
  const snapshots: Snapshot[] = [];
  const connections: Connection[] = [];
  const watcher = {
    snapshot: (snapshot: Snapshot) => void snapshots.push(snapshot),
    connection: (connection: Connection) => void connections.push(connection),
  };
  return { snapshots, connections, watcher };
}

describe('a command over HTTP', () => {
  it('is posted as JSON with the token in a header', async () => {
    const request = vi.fn(async () => Response.json({ models: [] }));
    const reply = await new HttpPlatform(BASE, 'secret', request).call('models', {});
    expect(reply).toEqual({ models: [] });
    const [url, init] = request.mock.calls[0] as unknown as [string, RequestInit];
    expect(url).toBe(`${BASE}/api/call/models`);
    expect(init).toMatchObject({ method: 'POST', body: '{}', credentials: 'omit' });
    expect(init.headers).toMatchObject({ Authorization: 'Bearer secret', 'Content-Type': 'application/json' });
  });

  it('that is refused with a failure rejects with that failure', async () => {
    const failure: Failure = { code: 'not_found', message: 'no folder at `/x`', hint: 'Check the path.', retryable: false };
    const platform = new HttpPlatform(BASE, 'secret', async () => Response.json(failure, { status: 404 }));
    await expect(platform.call('index', { paths: ['/x'] })).rejects.toEqual(failure);
  });

  it.each([
    [401, 'nope', 'invalid_request', 'Open the address'],
    [500, '<html>', 'internal', null],
  ] as const)('that is refused with status %s and no failure still says what to do', async (status, body, code, hint) => {
    const platform = new HttpPlatform(BASE, null, async () => new Response(body, { status }));
    const failure = (await platform.call('models', {}).catch((error: unknown) => error)) as Failure;
    expect(failure.code).toBe(code);
    if (hint) expect(failure.hint).toContain(hint);
  });

  it('to a server that is gone names the server', async () => {
    const platform = new HttpPlatform(BASE, null, () => Promise.reject(new TypeError('fetch failed')));
    await expect(platform.call('models', {})).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining(BASE),
      retryable: true,
    });
  });
});

describe('snapshots over HTTP', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('arrive whole when the stream is cut inside a character', async () => {
    const sample = { ...sampleSnapshot(), home: '/Users/zoë🔑' };
    const bytes = event(sample);
    const { snapshots, watcher } = recorder();
    const pieces = Array.from(bytes, (byte) => Uint8Array.of(byte));
    const stop = new HttpPlatform(BASE, 'secret', async () => stream(...pieces)).watch(watcher);
    await vi.waitFor(() => expect(snapshots).toHaveLength(1));
    stop();
    expect(snapshots[0]).toEqual(sample);
  });

  it('come back by themselves after the stream has broken', async () => {
    const answers = [
      () => stream(event(sampleSnapshot())),
      () => Promise.reject(new TypeError('refused')),
      () => stream(event({ ...sampleSnapshot(), waiting: 2 })),
    ];
    const request = vi.fn(async () => (answers.shift() ?? (() => new Promise<Response>(() => {})))());
    const { snapshots, connections, watcher } = recorder();
    const stop = new HttpPlatform(BASE, 'secret', request).watch(watcher);
    await vi.advanceTimersByTimeAsync(3000);
    stop();
    expect(snapshots.map((snapshot) => snapshot.waiting)).toEqual([0, 2]);
    expect(connections.map((connection) => connection.state)).toEqual(['connecting', 'live', 'lost', 'lost', 'live', 'lost']);
  });

  it('are asked for no more once the view is gone', async () => {
    const request = vi.fn(() => Promise.reject(new TypeError('refused')));
    const stop = new HttpPlatform(BASE, 'secret', request).watch(recorder().watcher);
    await vi.advanceTimersByTimeAsync(100);
    stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(request).toHaveBeenCalledTimes(1);
  });
});

describe('the token', () => {
  const at = (hash: string) => ({ hash, pathname: '/', search: '?view=both' }) as Location;
  const storage = () => {
    const kept = new Map<string, string>();
    return { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) } as Storage;
  };

  it('is taken from the fragment, kept for the tab, and removed from the address', () => {
    const replaceState = vi.fn();
    const kept = storage();
    const history = { replaceState, state: null } as unknown as History;
    expect(takeToken(at('#token=abc'), history, kept)).toBe('abc');
    expect(replaceState).toHaveBeenCalledWith(null, '', '/?view=both');
    expect(takeToken(at(''), history, kept)).toBe('abc');
    expect(replaceState).toHaveBeenCalledTimes(1);
  });

  it('is null where none was ever given', () => {
    expect(takeToken(at(''), {} as History, storage())).toBeNull();
  });
});
