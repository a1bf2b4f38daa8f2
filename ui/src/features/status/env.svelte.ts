/** The followed `.env`, what is being done about it, and what went wrong with that: told where it was asked for. */
import type { EnvChange, EnvMend, EnvStatus, Failure, Snapshot } from '../../contract/contract';
import { typedPath } from '../../lib/paths';
import { toFailure, type Params } from '../../platform';
import type { Application } from '../../stores/application.svelte';

export type EnvTask = 'follow' | 'unfollow' | 'approve' | 'keep' | `mend ${string} ${number}`;

export function mendTask({ code, line }: EnvMend): EnvTask {
  return `mend ${code} ${line}`;
}

export class EnvStore {
  /** What is under way: one thing at a time, since each changes what the next would be about. */
  task = $state<EnvTask | null>(null);
  /** What was tried last, where it failed. */
  failed = $state.raw<{ task: EnvTask; failure: Failure } | null>(null);
  /** As the newest snapshot has it, or as a command has answered since: a finding that is mended must not wait to disappear. */
  readonly status = $derived.by<EnvStatus | null>(() => {
    const { snapshot } = this.#application;
    return (this.#answer && this.#answer.after === snapshot ? this.#answer.env : snapshot?.env) ?? null;
  });

  readonly #application: Application;
  #answer = $state.raw<{ env: EnvStatus | null; after: Snapshot | null } | null>(null);

  constructor(application: Application) {
    this.#application = application;
  }

  /** What went wrong with a task, where nothing else was tried since. */
  failureOf(task: EnvTask): Failure | null {
    return this.failed?.task === task ? this.failed.failure : null;
  }

  dismiss(): void {
    this.failed = null;
  }

  /** Follows what was typed; says whether it was taken. */
  async follow(text: string): Promise<boolean> {
    const path = typedPath(text, this.#application.home);
    if (path === null) {
      const failure: Failure = {
        code: 'invalid_request',
        message: text.trim() === '' ? 'no file is named' : `the path \`${text.trim()}\` is not absolute`,
        hint: 'Type the whole path of a `.env` or of its folder, such as `~/src/project`.',
        retryable: false,
      };
      this.failed = { task: 'follow', failure };
      return false;
    }
    return this.#carryOut('follow', 'follow', { path });
  }

  unfollow(): Promise<boolean> {
    return this.#carryOut('unfollow', 'follow', { path: null });
  }

  /** With the variables that are shown: one that the file gets meanwhile is asked about again. */
  approve(variables: string[]): Promise<boolean> {
    return this.#carryOut('approve', 'approve_env', { variables });
  }

  mend({ code, line }: EnvMend): Promise<boolean> {
    return this.#carryOut(mendTask({ code, line }), 'mend_env', { code, line });
  }

  /** Writes the chosen model into the file, by the lines that are shown: a file that changed meanwhile is left alone. */
  keep(changes: EnvChange[]): Promise<boolean> {
    return this.#carryOut('keep', 'keep_in_env', { changes });
  }

  async #carryOut<M extends 'follow' | 'approve_env' | 'mend_env' | 'keep_in_env'>(task: EnvTask, method: M, params: Params<M>): Promise<boolean> {
    if (this.task !== null) return false;
    this.task = task;
    try {
      const { env } = await this.#application.call(method, params);
      this.#answer = { env, after: this.#application.snapshot };
      this.failed = null;
      return true;
    } catch (error) {
      // What failed before stays until now: a second try would else make the page jump twice.
      this.failed = { task, failure: toFailure(error) };
      return false;
    } finally {
      this.task = null;
    }
  }
}
