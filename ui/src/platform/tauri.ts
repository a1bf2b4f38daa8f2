/** The desktop shell: one `rpc` command, one snapshot channel, commands to show and hide windows, and what is dropped on one. */
import { Channel, invoke } from '@tauri-apps/api/core';
import { getCurrentWebview } from '@tauri-apps/api/webview';

import type { Snapshot } from '../contract/contract';
import { backoff, toFailure } from './failure';
import { onLook } from './look';
import { onWindowShown } from './shown';
import type { FileDrop, Method, Params, Platform, Reply, Watcher } from './types';

/** No snapshot for this long is worth a question; they come about once a second. */
const SILENCE_MS = 10_000;

export class TauriPlatform implements Platform {
  readonly kind = 'desktop';
  readonly canHide = true;
  readonly leaveLibrary = null;

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

  onFilesDropped(callback: (event: FileDrop) => void): () => void {
    let stopped = false;
    let paths: string[] = [];
    const listening = getCurrentWebview().onDragDropEvent(({ payload }) => {
      if (stopped) return;
      // Only entering and dropping name the files. Nothing is named where text is dragged: that is not ours.
      if (payload.type === 'enter' || payload.type === 'drop') paths = payload.paths;
      if (payload.type === 'leave') callback({ phase: 'leave', paths: [] });
      else if (paths.length > 0) callback({ phase: payload.type === 'drop' ? 'drop' : 'over', paths });
    });
    // A shell that does not tell of drops leaves everything else as it is.
    listening.catch(() => {});
    return () => {
      stopped = true;
      listening.then((stop) => stop()).catch(() => {});
    };
  }

  async openLibrary(source: string | null): Promise<void> {
    try {
      await invoke('open_library', { source });
    } catch (error) {
      throw toFailure(error);
    }
  }

  onLook(callback: (source: string) => void): () => void {
    return onLook(callback);
  }
}
