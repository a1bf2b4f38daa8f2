import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Snapshot } from '../contract/contract';
import { sampleSnapshot } from './mock';
import { TauriPlatform } from './tauri';
import type { Connection } from './types';

const shell = vi.hoisted(() => ({
  invoke: vi.fn<(command: string, payload?: unknown) => Promise<unknown>>(),
  channels: [] as { onmessage: (snapshot: unknown) => void }[],
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
});
