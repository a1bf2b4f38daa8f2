import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Snapshot } from '../contract/contract';
import { sampleSnapshot } from './mock';
import { TauriPlatform } from './tauri';
import type { Connection, FileDrop } from './types';

const shell = vi.hoisted(() => ({
  invoke: vi.fn<(command: string, payload?: unknown) => Promise<unknown>>(),
  channels: [] as { onmessage: (snapshot: unknown) => void }[],
  drag: (_: unknown): void => {},
  stopped: vi.fn(),
}));

vi.mock('@tauri-apps/api/webview', () => ({
  getCurrentWebview: () => ({
    onDragDropEvent: (handler: (event: { payload: unknown }) => void) => {
      shell.drag = (payload) => handler({ payload });
      return Promise.resolve(shell.stopped);
    },
  }),
}));

vi.mock('@tauri-apps/api/core', () => ({
  invoke: shell.invoke,
  Channel: class {
    onmessage: (snapshot: unknown) => void = () => {};
    constructor() {
      shell.channels.push(this);
    }
  },
}));

function recorder() {
  const snapshots: Snapshot[] = [];
  const states: Connection['state'][] = [];
  return {
    snapshots,
    states,
    watcher: {
      snapshot: (snapshot: Snapshot) => void snapshots.push(snapshot),
      connection: ({ state }: Connection) => void states.push(state),
    },
  };
}

beforeEach(() => {
  vi.useFakeTimers();
  shell.invoke.mockReset();
  shell.channels.length = 0;
});
afterEach(() => void vi.useRealTimers());

describe('the desktop shell', () => {
  it('gets every command in the one envelope', async () => {
    shell.invoke.mockResolvedValue({ models: [] });
    await new TauriPlatform().call('models', {});
    expect(shell.invoke).toHaveBeenCalledWith('rpc', { method: 'models', params: {} });
  });

  it('rejects with a failure whatever it threw', async () => {
    const failure = { code: 'not_found', message: 'no job `3`', hint: null, retryable: false };
    shell.invoke.mockRejectedValueOnce(failure).mockRejectedValueOnce('command rpc not allowed');
    await expect(new TauriPlatform().call('cancel', { id: 3 })).rejects.toEqual(failure);
    await expect(new TauriPlatform().call('cancel', { id: 3 })).rejects.toMatchObject({ message: 'command rpc not allowed' });
  });

  it('delivers snapshots over a channel until it is told to stop', async () => {
    shell.invoke.mockResolvedValue(undefined);
    const { snapshots, states, watcher } = recorder();
    const stop = new TauriPlatform().watch(watcher);
    shell.channels[0]?.onmessage(sampleSnapshot());
    stop();
    shell.channels[0]?.onmessage(sampleSnapshot());
    expect(snapshots).toHaveLength(1);
    expect(states).toEqual(['connecting', 'live']);
  });

  it('asks after a long silence, says that it is lost when nothing answers, and subscribes anew', async () => {
    shell.invoke.mockImplementation((command) => (command === 'watch' ? Promise.resolve() : Promise.reject('gone')));
    const { snapshots, states, watcher } = recorder();
    const stop = new TauriPlatform().watch(watcher);
    shell.channels[0]?.onmessage(sampleSnapshot());
    await vi.advanceTimersByTimeAsync(11_000);
    expect(states).toEqual(['connecting', 'live', 'lost']);
    expect(shell.channels).toHaveLength(2);
    shell.channels[0]?.onmessage(sampleSnapshot());
    expect(snapshots).toHaveLength(1);
    shell.channels[1]?.onmessage(sampleSnapshot());
    expect(states.at(-1)).toBe('live');
    stop();
  });

  it('shows the library with what it is to look at', async () => {
    shell.invoke.mockResolvedValue(undefined);
    await new TauriPlatform().openLibrary('/Users/ada/model.gguf');
    expect(shell.invoke).toHaveBeenCalledWith('open_library', { source: '/Users/ada/model.gguf' });
  });

  it('tells of files that are dragged, with their paths, and of nothing else', async () => {
    const events: FileDrop[] = [];
    const stop = new TauriPlatform().onFilesDropped((event) => events.push(event));
    const position = { x: 1, y: 2 };
    shell.drag({ type: 'enter', paths: ['/a'], position });
    shell.drag({ type: 'over', position });
    shell.drag({ type: 'drop', paths: ['/a'], position });
    expect(events).toEqual([
      { phase: 'over', paths: ['/a'] },
      { phase: 'over', paths: ['/a'] },
      { phase: 'drop', paths: ['/a'] },
    ]);
    events.length = 0;
    shell.drag({ type: 'enter', paths: [], position });
    shell.drag({ type: 'over', position });
    shell.drag({ type: 'drop', paths: [], position });
    expect(events).toEqual([]);
    stop();
    await vi.advanceTimersByTimeAsync(0);
    shell.drag({ type: 'drop', paths: ['/b'], position });
    expect(events).toEqual([]);
    expect(shell.stopped).toHaveBeenCalledOnce();
  });
});
