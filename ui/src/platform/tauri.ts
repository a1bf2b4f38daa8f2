/** The desktop shell: one `rpc` command, one snapshot channel, one command to hide the window. */
import { Channel, invoke } from '@tauri-apps/api/core';

import type { Snapshot } from '../contract/contract';
import { backoff, toFailure } from './failure';
import { onWindowShown } from './shown';
import type { Method, Params, Platform, Reply, Watcher } from './types';

/** No snapshot for this long is worth a question; they come about once a second. */
const SILENCE_MS = 10_000;

export class TauriPlatform implements Platform {
  readonly kind = 'desktop';
  readonly canHide = true;

  async call<M extends Method>(method: M, params: Params<M>): Promise<Reply<M>> {
    try {
      return await invoke<Reply<M>>('rpc', { method, params });
    } catch (error) {
      throw toFailure(error);
    }
  }

  watch(watcher: Watcher): () => void {
    let stopped = false;
    let attempt = 0;
    let alarm: ReturnType<typeof setTimeout> | undefined;

    const subscribe = () => {
      let current = true;
      const channel = new Channel<Snapshot>();

      const lost = (error: unknown) => {
        if (stopped || !current) return;
        current = false;
        watcher.connection({ state: 'lost', failure: toFailure(error) });
        alarm = setTimeout(subscribe, backoff(attempt++));
      };
      // The channel does not say when its other end is gone, so silence is followed by a question.
      const listen = () => {
        clearTimeout(alarm);
        alarm = setTimeout(() => this.call('snapshot', {}).then(deliver, lost), SILENCE_MS);
      };
      const deliver = (snapshot: Snapshot) => {
        if (stopped || !current) return;
        attempt = 0;
        listen();
        watcher.connection({ state: 'live' });
        watcher.snapshot(snapshot);
      };

      channel.onmessage = deliver;
      invoke('watch', { channel }).then(() => {
        if (!stopped && current) listen();
      }, lost);
    };

    watcher.connection({ state: 'connecting' });
    subscribe();
    return () => {
      stopped = true;
      clearTimeout(alarm);
    };
  }

  async hideWindow(): Promise<void> {
    try {
      await invoke('hide_window');
    } catch (error) {
      throw toFailure(error);
    }
  }

  onShown(callback: () => void): () => void {
    return onWindowShown(callback);
  }
}
