/** The application as all views see it: its latest snapshot, the state of the stream, and what went wrong lately. */
import type { Failure, Snapshot } from '../contract/contract';
import { homeOf } from '../lib/paths';
import { toFailure, type Connection, type Method, type Params, type Platform, type Reply } from '../platform';
import { History } from './history.svelte';

export interface Notice {
  id: number;
  failure: Failure;
}

/** More at once would push the panel out of its window. */
const MOST_NOTICES = 3;

export class Application {
  readonly platform: Platform;
  readonly history = new History();
  snapshot = $state.raw<Snapshot | null>(null);
  connection = $state.raw<Connection>({ state: 'connecting' });
  notices = $state.raw<Notice[]>([]);
  /** The person's home folder, for `~`; told from where the application keeps its state. */
  readonly home = $derived(this.snapshot ? homeOf(this.snapshot.home) : null);

  #lastNotice = 0;
  readonly #now: () => number;

  constructor(platform: Platform, now: () => number = () => performance.now()) {
    this.platform = platform;
    this.#now = now;
  }

  /** Follows the snapshots until the returned function is called. */
  start(): () => void {
    return this.platform.watch({
      snapshot: (snapshot) => {
        this.snapshot = snapshot;
        this.history.add(snapshot.memory, this.#now());
      },
      connection: (connection) => {
        const wasLive = this.connection.state === 'live';
        this.connection = connection;
        // After a gap the application remembers what this view has missed.
        if (connection.state === 'live' && !wasLive) void this.#readHistory();
      },
    });
  }

  call<M extends Method>(method: M, params: Params<M>): Promise<Reply<M>> {
    return this.platform.call(method, params);
  }

  /** Carries out a command; a failure becomes a notice and the answer `null`. */
  async attempt<M extends Method>(method: M, params: Params<M>): Promise<Reply<M> | null> {
    try {
      return await this.call(method, params);
    } catch (error) {
      this.report(error);
      return null;
    }
  }

  report(error: unknown): void {
    const failure = toFailure(error);
    const others = this.notices.filter((notice) => notice.failure.message !== failure.message);
    this.notices = [...others, { id: ++this.#lastNotice, failure }].slice(-MOST_NOTICES);
  }

  dismiss(id: number): void {
    this.notices = this.notices.filter((notice) => notice.id !== id);
  }

  async #readHistory(): Promise<void> {
    try {
      this.history.seed(await this.call('memory_history', {}), this.#now());
    } catch {
      // The gauge then begins with now; the stream itself tells of a lost application.
    }
  }
}
