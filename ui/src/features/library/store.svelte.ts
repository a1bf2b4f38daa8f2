/** What the library window remembers beyond the snapshot: the models, which one is looked at, and what is about to be installed. */
import type { ConvertFormat, ConvertPrecision, Failure, InstallOffer, ModelDetails, ModelInfo, Models, Removed, SdkProposal, TokenStatus } from '../../contract/contract';
import { typedPath } from '../../lib/paths';
import { toFailure, type Method, type Params, type Reply } from '../../platform';
import type { Application } from '../../stores/application.svelte';
import { preparedName, type OfferChoices } from './describe';

/** What can be under way, or has failed: told where it was asked for. */
export type LibraryTask = 'list' | 'look' | 'install' | 'show' | 'use' | 'verify' | 'remove' | 'reveal' | 'convert' | 'sdk' | 'keep' | 'token' | 'limit' | 'elsewhere';

/** What is opened below a model's buttons; one thing at a time. */
export type Drawer = 'remove' | 'export' | 'sdk';

export class LibraryStore {
  /** `null` before they were read. */
  list = $state.raw<Models | null>(null);
  /** The id of the model that is looked at. */
  selected = $state<string | null>(null);
  details = $state.raw<ModelDetails | null>(null);
  drawer = $state<Drawer | null>(null);
  /** The field of what is to be added. */
  source = $state('');
  /** What is being looked at, and then what came of it. */
  looked = $state.raw<string | null>(null);
  offer = $state.raw<InstallOffer | null>(null);
  removed = $state.raw<{ id: string; receipt: Removed } | null>(null);
  sdk = $state.raw<SdkProposal | null>(null);
  /** The file that the SDK's lines were written into. */
  written = $state<string | null>(null);
  token = $state.raw<TokenStatus | null>(null);
  /** Bytes a second, 0 for no limit; `undefined` before it was read. */
  limit = $state<number | undefined>(undefined);
  /** Jobs that have ended and were taken off the list. */
  dismissed = $state.raw<ReadonlySet<number>>(new Set());
  /** What is under way. */
  tasks = $state.raw<ReadonlySet<LibraryTask>>(new Set());
  failed = $state.raw<{ task: LibraryTask; failure: Failure } | null>(null);

  readonly models = $derived(this.list?.models ?? []);
  readonly model = $derived(this.models.find((model) => model.id === this.selected) ?? null);

  readonly #application: Application;
  /** Counts what was looked at or shown: an answer that comes after something newer was asked for is dropped. */
  #looks = 0;
  #shows = 0;

  constructor(application: Application) {
    this.#application = application;
  }

  /** Whether something is under way. */
  busy(task: LibraryTask): boolean {
    return this.tasks.has(task);
  }

  failureOf(task: LibraryTask): Failure | null {
    return this.failed?.task === task ? this.failed.failure : null;
  }

  dismiss(): void {
    this.failed = null;
  }

  dismissJob(id: number): void {
    this.dismissed = new Set([...this.dismissed, id]);
  }

  async refresh(): Promise<void> {
    const known = this.list?.models.map((model) => model.id);
    try {
      this.list = await this.#application.call('models', {});
      if (this.failed?.task === 'list') this.failed = null;
    } catch (error) {
      this.failed = { task: 'list', failure: toFailure(error) };
      return;
    }
    const arrived = known ? this.models.filter((model) => !known.includes(model.id)) : [];
    if (this.selected !== null && !this.model) this.close();
    // What was just installed is what the person wants to see, unless they look at something else by now.
    if (arrived.length === 1 && arrived[0] && this.selected === null && this.looked === null) await this.show(arrived[0].id);
    else if (this.selected !== null) await this.#readDetails(this.selected);
  }

  /** Shows a model. */
  async show(id: string): Promise<void> {
    this.cancelOffer();
    if (this.selected !== id) {
      this.details = null;
      this.drawer = null;
      this.failed = null;
    }
    this.selected = id;
    await this.#readDetails(id);
  }

  /** Shows no model. */
  close(): void {
    this.selected = null;
    this.details = null;
    this.drawer = null;
  }

  async #readDetails(model: string): Promise<void> {
    const show = ++this.#shows;
    try {
      const details = await this.#application.call('show_model', { model });
      if (show === this.#shows && this.selected === model) this.details = details;
    } catch (error) {
      if (show === this.#shows) this.failed = { task: 'show', failure: toFailure(error) };
    }
  }

  /** Looks at what was typed, dropped or suggested; nothing is fetched for it but lists. */
  async look(text: string): Promise<void> {
    const source = typedPath(text, this.#application.home) ?? text.trim();
    this.source = text;
    this.offer = null;
    this.removed = null;
    this.close();
    if (source === '') {
      this.looked = null;
      const hint = 'Type a path such as `~/Downloads/model`, a link to the hub, or a repository such as `Qwen/Qwen3-Embedding-0.6B`.';
      this.failed = { task: 'look', failure: { code: 'invalid_request', message: 'nothing is named', hint, retryable: false } };
      return;
    }
    const look = ++this.#looks;
    this.looked = source;
    this.failed = null;
    try {
      const offer = await this.#application.call('inspect', { source });
      if (look === this.#looks) this.offer = offer;
    } catch (error) {
      if (look === this.#looks) this.failed = { task: 'look', failure: toFailure(error) };
    }
  }

  /** Gives up what was looked at; what was typed stays in the field. */
  cancelOffer(): void {
    this.#looks += 1;
    this.looked = null;
    this.offer = null;
    if (this.failed?.task === 'look' || this.failed?.task === 'install') this.failed = null;
  }

  /** Installs what is on offer: with the size and the commit that are shown, and no others. */
  async install({ inPlace, ladder }: OfferChoices): Promise<void> {
    const { offer } = this;
    if (!offer) return;
    const started = await this.#carryOut('install', 'install', {
      source: offer.source,
      agreed_bytes: offer.download?.fetch_bytes ?? null,
      commit: offer.download?.commit ?? null,
      // Without it the owner would have to look once more.
      name: offer.name,
      leave_in_place: inPlace,
      ladder,
    });
    if (!started) return;
    this.cancelOffer();
    this.source = '';
  }

  /** What was dropped was no model: it is indexed instead. */
  async indexInstead(path: string): Promise<void> {
    if (await this.#carryOut('elsewhere', 'index', { paths: [path] })) this.cancelOffer();
  }

  async followInstead(path: string): Promise<void> {
    if (await this.#carryOut('elsewhere', 'follow', { path })) this.cancelOffer();
  }

  async use(model: string): Promise<void> {
    if (await this.#carryOut('use', 'activate', { model })) await this.refresh();
  }

  async verify(model: string): Promise<void> {
    await this.#carryOut('verify', 'verify', { model });
  }

  async reveal(model: string): Promise<void> {
    await this.#carryOut('reveal', 'reveal', { model });
  }

  async remove(model: string): Promise<void> {
    const receipt = await this.#carryOut('remove', 'remove', { model });
    if (!receipt) return;
    this.removed = { id: model, receipt };
    this.close();
    await this.refresh();
  }

  /** Whether the library has this model in that precision. */
  has(model: ModelInfo, precision: ConvertPrecision): boolean {
    return model.precision === precision || this.models.some((other) => other.id === preparedName(model.id, precision));
  }

  /** Makes another precision of a model, in the library. */
  async prepare(model: ModelInfo, precision: ConvertPrecision): Promise<void> {
    await this.#carryOut('convert', 'convert', { source: model.path, precision, format: { kind: 'gguf' }, target: null, make_room: null });
  }

  /** Writes a model to a file of its own. */
  async exportTo(model: ModelInfo, precision: ConvertPrecision, format: ConvertFormat, path: string): Promise<void> {
    const target = typedPath(path, this.#application.home);
    if (target === null) {
      const failure = { code: 'invalid_request', message: `the path \`${path.trim()}\` is not absolute`, hint: 'Type the whole path, such as `~/Desktop/model.gguf`.', retryable: false } as const;
      this.failed = { task: 'convert', failure };
      return;
    }
    if (await this.#carryOut('convert', 'convert', { source: model.path, precision, format, target, make_room: null })) this.drawer = null;
  }

  async openDrawer(drawer: Drawer | null): Promise<void> {
    this.drawer = drawer;
    this.failed = null;
    this.sdk = null;
    this.written = null;
    const model = this.selected;
    if (drawer !== 'sdk' || model === null) return;
    const proposal = await this.#carryOut('sdk', 'sdk_lines', { model });
    if (proposal && this.selected === model) this.sdk = proposal;
  }

  /** Writes the lines that are shown, and no others. */
  async keepSdkLines(): Promise<void> {
    const { sdk } = this;
    if (!sdk) return;
    if (!(await this.#carryOut('keep', 'keep_sdk_lines', { model: sdk.model, changes: sdk.changes }))) return;
    this.written = sdk.file;
  }

  /** What is set for downloads: the token, which may ask the system for it, and the limit. */
  async readSettings(): Promise<void> {
    await Promise.all([
      this.#carryOut('token', 'token', {}).then((token) => (this.token = token ?? this.token)),
      this.#carryOut('limit', 'download_limit', {}).then((set) => set && (this.limit = set.bytes_per_second ?? 0)),
    ]);
  }

  /** Keeps a token, or forgets the kept one; says whether that was done. */
  async setToken(token: string | null): Promise<boolean> {
    const status = await this.#carryOut('token', 'set_token', { token });
    if (status) this.token = status;
    return status !== null;
  }

  async setLimit(bytesPerSecond: number): Promise<void> {
    if (await this.#carryOut('limit', 'limit_downloads', { bytes_per_second: bytesPerSecond || null })) this.limit = bytesPerSecond;
  }

  async #carryOut<M extends Method>(task: LibraryTask, method: M, params: Params<M>): Promise<Reply<M> | null> {
    // A second click on what is under way asks for nothing new.
    if (this.tasks.has(task)) return null;
    this.tasks = new Set([...this.tasks, task]);
    try {
      const reply = await this.#application.call(method, params);
      if (this.failed?.task === task) this.failed = null;
      return reply;
    } catch (error) {
      this.failed = { task, failure: toFailure(error) };
      return null;
    } finally {
      this.tasks = new Set([...this.tasks].filter((other) => other !== task));
    }
  }
}
