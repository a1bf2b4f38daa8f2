/** What the panel remembers beyond the snapshot: the models there are, the last receipt, and what is under way. */
import type { CleanupReceipt, ModelInfo } from '../../contract/contract';
import { typedPath } from '../../lib/paths';
import type { Application } from '../../stores/application.svelte';

export class StatusStore {
  models = $state.raw<ModelInfo[]>([]);
  receipt = $state.raw<CleanupReceipt | null>(null);
  cleaning = $state(false);
  pausing = $state(false);
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

  forget(path: string): Promise<unknown> {
    return this.#application.attempt('forget', { path });
  }

  cancel(id: number): Promise<unknown> {
    return this.#application.attempt('cancel', { id });
  }
}
