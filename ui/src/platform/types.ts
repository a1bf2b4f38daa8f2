/**
 * What the interface needs from whatever hosts it: the whole surface, nothing else.
 *
 * Nothing outside `src/platform` imports `@tauri-apps/*` or calls `fetch`. A host that lacks something says so in a type,
 * not by throwing while a view is drawn.
 */
import type { Commands, Failure, Snapshot } from '../contract/contract';

export type Method = keyof Commands;
export type Params<M extends Method> = Commands[M]['params'];
export type Reply<M extends Method> = Commands[M]['reply'];

/** Whether snapshots are arriving. */
export type Connection = { state: 'connecting' } | { state: 'live' } | { state: 'lost'; failure: Failure };

/** Who is told about snapshots and about the state of their stream. */
export interface Watcher {
  snapshot(snapshot: Snapshot): void;
  connection(connection: Connection): void;
}

/** Something that is dragged over the window. Where a host does not tell where files lie, `paths` is empty. */
export interface FileDrop {
  phase: 'over' | 'leave' | 'drop';
  /** Absolute paths. */
  paths: string[];
}

export interface Platform {
  readonly kind: 'desktop' | 'browser' | 'mock';
  /** Whether the view is in a window of its own that can be hidden. */
  readonly canHide: boolean;
  /** Carries out one command. Rejects with a {@link Failure}, with nothing else. */
  call<M extends Method>(method: M, params: Params<M>): Promise<Reply<M>>;
  /** Delivers snapshots until the returned function is called; comes back by itself when the stream breaks. */
  watch(watcher: Watcher): () => void;
  /** Hides the window; does nothing where {@link canHide} is false. */
  hideWindow(): Promise<void>;
  /** Calls back whenever the window comes to the front, until the returned function is called. */
  onShown(callback: () => void): () => void;
  /** Calls back for what is dragged over the window and dropped on it, until the returned function is called. */
  onFilesDropped(callback: (event: FileDrop) => void): () => void;
  /** Shows the library; where `source` is given, with what installing that would take. */
  openLibrary(source: string | null): Promise<void>;
  /** Leaves the library for the other views, on a host that shows one page at a time; `null` where each has a window. */
  readonly leaveLibrary: (() => void) | null;
  /** Calls back with each source that the library was shown for, until the returned function is called. */
  onLook(callback: (source: string) => void): () => void;
}
