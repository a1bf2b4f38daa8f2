/** What the panel remembers beyond the snapshot: models, the largest programs, the last receipt, and what is under way. */
import type { CleanupReceipt, ConvertRequest, MachineOverview, ModelInfo, OfferReceipt, Offers, RemoteStatus } from '../../contract/contract';
import { isModelId, typedPath } from '../../lib/paths';
import type { Application } from '../../stores/application.svelte';
import type { Prefill } from './describe';

/** Often enough to see a program grow, seldom enough to cost nothing. */
const MACHINE_INTERVAL_MS = 4000;

export class StatusStore {
  models = $state.raw<ModelInfo[]>([]);
  receipt = $state.raw<CleanupReceipt | null>(null);
  /** Who holds memory; read while somebody looks. */
  machine = $state.raw<MachineOverview | null>(null);
  /** What other programs would give back; `null` before somebody looked. */
  offers = $state.raw<Offers | null>(null);
  /** What came of asking them. */
  asked = $state.raw<OfferReceipt | null>(null);
  asking = $state(false);
  answering = $state(false);
  cleaning = $state(false);
  pausing = $state(false);
  /** Whether the form for a conversion is shown. */
  converting = $state(false);
  /** What that form is set to; another object each time that it is to be set again. */
  prefill = $state.raw<Prefill | null>(null);
  /** The id of the model that is being made active. */
  activating = $state<string | null>(null);

  readonly #application: Application;

  constructor(application: Application) {
    this.#application = application;
  }

  async refreshModels(): Promise<void> {
    const reply = await this.#application.attempt('models', {});
    if (reply) this.models = reply.models;
  }

  /** Reads who holds memory, again and again, until the returned function is called. */
  watchMachine(): () => void {
    const read = async () => {
      if (document.hidden) return;
      try {
        this.machine = await this.#application.call('machine', {});
      } catch {
        // The stream itself tells of a lost application; the list stays as it was.
      }
    };
    void read();
    const timer = setInterval(() => void read(), MACHINE_INTERVAL_MS);
    return () => clearInterval(timer);
  }

  /** Shows the library; with what installing something would take, where something is named. */
  async openLibrary(source: string | null): Promise<void> {
    try {
      await this.#application.platform.openLibrary(source);
    } catch (error) {
      this.#application.report(error);
    }
  }

  async activate(model: string): Promise<void> {
    if (this.activating !== null) return;
    this.activating = model;
    await this.#application.attempt('activate', { model });
    this.activating = null;
    await this.refreshModels();
  }

  async cleanUp(): Promise<void> {
    if (this.cleaning) return;
    this.cleaning = true;
    this.receipt = null;
    this.receipt = await this.#application.attempt('cleanup', { dry_run: false });
    this.cleaning = false;
  }

  async lookForOffers(): Promise<void> {
    this.offers = null;
    this.asked = null;
    this.offers = (await this.#application.attempt('offers', {})) ?? { offers: [], notes: [], stopped: [] };
  }

  acceptOffers(ids: string[]): Promise<void> {
    return this.#ask(() => this.#application.attempt('accept_offers', { ids }));
  }

  startAgain(): Promise<void> {
    return this.#ask(() => this.#application.attempt('start_again', {}));
  }

  async #ask(work: () => Promise<OfferReceipt | null>): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    const asked = await work();
    await this.lookForOffers();
    this.asked = asked;
    this.asking = false;
  }

  async answerRemote({ host, model }: RemoteStatus, allow: boolean): Promise<void> {
    if (this.answering) return;
    this.answering = true;
    await this.#application.attempt('allow_remote', { host, model, allow });
    this.answering = false;
  }

  async setPaused(paused: boolean): Promise<void> {
    if (this.pausing) return;
    this.pausing = true;
    await this.#application.attempt('pause', { paused });
    this.pausing = false;
  }

  /** Starts to index what was typed; says whether it was taken. */
  async index(text: string): Promise<boolean> {
    const path = typedPath(text, this.#application.home);
    if (path === null) {
      this.#application.report({
        code: 'invalid_request',
        message: text.trim() === '' ? 'no folder is named' : `\`${text.trim()}\` is not an absolute path`,
        hint: 'Type the whole path of a folder or file, such as `~/Documents`.',
        retryable: false,
      });
      return false;
    }
    return (await this.#application.attempt('index', { paths: [path] })) !== null;
  }

  /** Starts a conversion of what was typed as its source; says whether it was taken. */
  async convert(request: ConvertRequest): Promise<boolean> {
    const text = request.source.trim();
    const source = isModelId(text) ? text : typedPath(text, this.#application.home);
    if (source === null) {
      this.#application.report({
        code: 'invalid_request',
        message: text === '' ? 'no model is named' : `\`${text}\` is neither an absolute path nor the id of a model`,
        hint: 'Type the whole path of a checkpoint’s folder, or an id such as `Qwen/Qwen3-Embedding-0.6B`.',
        retryable: false,
      });
      return false;
    }
    return (await this.#application.attempt('convert', { ...request, source })) !== null;
  }

  /** Shows or hides the form for a conversion, set to nothing in particular. */
  toggleConverting(): void {
    this.prefill = null;
    this.converting = !this.converting;
  }

  /** Shows the form for a conversion, set to this. */
  prepareConversion(prefill: Prefill): void {
    this.prefill = { ...prefill };
    this.converting = true;
  }

  forget(path: string): Promise<unknown> {
    return this.#application.attempt('forget', { path });
  }

  cancel(id: number): Promise<unknown> {
    return this.#application.attempt('cancel', { id });
  }
}
