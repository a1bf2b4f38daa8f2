/** The search as it is typed: waits for a pause, drops answers that come too late, keeps the old hits until then. */
import type { Failure, Hit, SearchResults } from '../../contract/contract';
import { toFailure } from '../../platform';
import type { Application } from '../../stores/application.svelte';

export const DEBOUNCE_MS = 120;
export const LIMIT = 30;
/** Hits that PageUp and PageDown move by: about what the window shows. */
const PAGE = 5;

export type Phase = 'idle' | 'searching' | 'done' | 'failed';

export class SearchStore {
  query = $state('');
  phase = $state<Phase>('idle');
  results = $state.raw<SearchResults | null>(null);
  failure = $state.raw<Failure | null>(null);
  selected = $state(0);

  readonly hits: Hit[] = $derived(this.results?.hits ?? []);
  readonly selectedHit: Hit | null = $derived(this.hits[this.selected] ?? null);

  readonly #application: Application;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts the queries; an answer to any but the last one is stale. */
  #latest = 0;

  constructor(application: Application) {
    this.#application = application;
  }

  /** Whether what is shown answers what is typed. */
  get settled(): boolean {
    return this.phase === 'done' || this.phase === 'failed';
  }

  type(query: string): void {
    this.query = query;
    this.#latest += 1;
    clearTimeout(this.#timer);
    if (query.trim() === '') {
      this.phase = 'idle';
      this.results = null;
      this.failure = null;
      this.selected = 0;
      return;
    }
    this.phase = 'searching';
    this.#timer = setTimeout(() => void this.#search(), DEBOUNCE_MS);
  }

  /** Searches at once, also for a query that has failed. */
  async again(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.query.trim() === '') return;
    this.#latest += 1;
    this.phase = 'searching';
    await this.#search();
  }

  async #search(): Promise<void> {
    const ticket = this.#latest;
    try {
      const results = await this.#application.call('search', { query: this.query, limit: LIMIT });
      if (ticket !== this.#latest) return;
      this.results = results;
      this.failure = null;
      this.selected = 0;
      this.phase = 'done';
    } catch (error) {
      if (ticket !== this.#latest) return;
      this.results = null;
      this.failure = toFailure(error);
      this.phase = 'failed';
    }
  }

  /** Moves the selection for a key; says whether the key is one that does. */
  move(key: string): boolean {
    const last = this.hits.length - 1;
    const target = new Map([
      ['ArrowDown', this.selected + 1],
      ['ArrowUp', this.selected - 1],
      ['PageDown', this.selected + PAGE],
      ['PageUp', this.selected - PAGE],
      ['Home', 0],
      ['End', last],
    ]);
    const next = target.get(key);
    if (next === undefined || last < 0) return false;
    this.selected = Math.min(Math.max(next, 0), last);
    return true;
  }

  select(index: number): void {
    this.selected = index;
  }

  /**
   * Opens the selected hit. While the answer to what is typed is still on its way nothing is opened: the hits on show belong
   * to another query, and it is searched for at once instead.
   */
  async open(): Promise<void> {
    if (!this.settled || this.phase === 'failed') return this.again();
    const hit = this.selectedHit;
    if (!hit) return;
    try {
      await this.#application.call('open', { path: hit.path });
      this.failure = null;
      await this.#application.platform.hideWindow();
    } catch (error) {
      this.failure = toFailure(error);
    }
  }

  dismissFailure(): void {
    this.failure = null;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#latest += 1;
  }
}
