// Generated from src-tauri/crates/contract by `cargo xtask contract`. Do not edit.

/**
 * Which programme of arithmetic runs the model.
 */
export type BackendName = "candle_cpu" | "cpu" | "candle_metal" | "core_ml" | "core_ml_interpreted" | "remote";

/**
 * What a model's self-test found on this machine.
 */
export type Card = { 
/**
 * When, in seconds since 1970.
 */
tested_at: number, 
/**
 * The program's version.
 */
program: string, 
/**
 * Whether all checks passed.
 */
passed: boolean, 
/**
 * Each check.
 */
checks: Array<CardCheck>, 
/**
 * What its vectors carry; `None` where it could not be opened.
 */
generation: Generation | null, 
/**
 * What ran it.
 */
backend: BackendName | null, 
/**
 * Width of its vectors.
 */
dims: number | null, 
/**
 * The most tokens it reads of a text, by its files.
 */
max_tokens: number | null, 
/**
 * The token after which text no longer changed the vector, as measured; never more than a test's longest text.
 */
true_window: number | null, 
/**
 * How hidden states become a vector: `mean`, `first` or `last`; `None` where a package has it built in.
 */
pooling: string | null, 
/**
 * What goes in front of a query.
 */
query_prompt: string, 
/**
 * What goes in front of a document.
 */
document_prompt: string, 
/**
 * From opening the file to the first vector.
 */
load_ms: number | null, 
/**
 * A text of about ten tokens, the median of several.
 */
short_text_ms: number | null, 
/**
 * Tokens a second of texts of about sixty tokens together.
 */
tokens_per_second: number | null, 
/**
 * The most memory that the test's process held.
 */
peak_bytes: number | null, };

/**
 * One check of a self-test.
 */
export type CardCheck = { 
/**
 * What was checked, such as `batch equals single`.
 */
name: string, 
/**
 * Whether it is as it should be.
 */
passed: boolean, 
/**
 * With the numbers.
 */
detail: string, };

/**
 * One thing that a clean-up did.
 */
export type CleanupItem = { 
/**
 * What was done, in words.
 */
action: string, 
/**
 * What it gave back, measured afterwards; `None` where nothing was measured, as in a dry run.
 */
freed_bytes: number | null, };

/**
 * What a clean-up did and what it changed.
 */
export type CleanupReceipt = { 
/**
 * Whether nothing was really done.
 */
dry_run: boolean, 
/**
 * Item by item.
 */
items: Array<CleanupItem>, 
/**
 * What was removed from the disk, which is no memory.
 */
disk: Array<CleanupItem>, 
/**
 * The reading before.
 */
before: MemoryReading, 
/**
 * The reading two seconds after; the same as `before` in a dry run.
 */
after: MemoryReading, };

/**
 * Whether to do the clean-up or only to say what it would do.
 */
export type CleanupRequest = { 
/**
 * Say what would be done and do nothing.
 */
dry_run: boolean, };

/**
 * What a conversion makes.
 */
export type ConvertFormat = { "kind": "gguf" } | { "kind": "mlpackage", 
/**
 * The oldest system that opens it.
 */
system: ConvertSystem, 
/**
 * The recipe that is built in.
 */
recipe: RecipeName, };

/**
 * What the matrices of a converted model are stored as.
 */
export type ConvertPrecision = "fp16" | "int8" | "4bit";

/**
 * A conversion that is wanted.
 */
export type ConvertRequest = { 
/**
 * The absolute path of a checkpoint's folder, or the id of a model that the Hugging Face cache holds.
 */
source: string, 
/**
 * What the matrices are stored as.
 */
precision: ConvertPrecision, 
/**
 * What is made.
 */
format: ConvertFormat, 
/**
 * The absolute path of the file or package to make; `None` for a folder of its own among the home's models, whose name
 * is made of the source, the precision and the format. What is there is replaced once the new one is complete.
 */
target: string | null, 
/**
 * Makes room first: accepts these offers ([`NeighbourOffer::id`]) and cleans up. Containers that were stopped are started
 * again when the job has ended, however it ended.
 */
make_room: Array<string> | null, };

/**
 * The oldest macOS that opens a package. Newer ones open it too.
 */
export type ConvertSystem = "macos13" | "macos14" | "macos15";

/**
 * The disk that holds a folder.
 */
export type DiskReading = { 
/**
 * Where it is mounted.
 */
mounted_at: string, 
/**
 * Its size.
 */
total_bytes: number, 
/**
 * What this user can still write.
 */
available_bytes: number, };

/**
 * How fast downloads may be.
 */
export type DownloadLimit = { 
/**
 * Bytes a second over all connections; `None` is no limit.
 */
bytes_per_second: number | null, };

/**
 * What a download would be.
 */
export type DownloadOffer = { 
/**
 * The hub's address.
 */
hub: string, 
/**
 * `owner/name`.
 */
repository: string, 
/**
 * The commit that is fetched, 40 hexadecimal digits.
 */
commit: string, 
/**
 * Files in all.
 */
files: number, 
/**
 * Their size.
 */
total_bytes: number, 
/**
 * What of it has to be fetched; the rest is on this machine.
 */
fetch_bytes: number, 
/**
 * The folder that they are fetched into.
 */
folder: string, 
/**
 * The licence that the repository names.
 */
licence: string | null, 
/**
 * What kind of files they are.
 */
kind: ModelKind, 
/**
 * The model of the catalogue that it is. What follows is known of it alone: files are opened once they are here.
 */
known: string | null, 
/**
 * Its family, such as `bert`.
 */
architecture: string | null, 
/**
 * Width of its vectors.
 */
dims: number | null, 
/**
 * The most tokens that it reads of a text.
 */
max_tokens: number | null, 
/**
 * What it is expected to take in memory while it runs.
 */
needs_bytes: number | null, 
/**
 * What a person should know, a sentence each.
 */
notes: Array<string>, };

/**
 * Texts to embed.
 */
export type EmbedRequest = { 
/**
 * One vector is made for each, in order.
 */
texts: Array<string>, 
/**
 * The model that has to make them, by id, with `:fp16`, `:int8` or `:4bit` for that precision only; `None` for the active one.
 * Where another one answers at the moment, the request is refused and may be sent again.
 */
model: string | null, 
/**
 * The prompt that goes in front of each.
 */
prompt: PromptKind, 
/**
 * Which recipe to apply.
 */
recipe: RecipeName, 
/**
 * How long the model is to stay loaded after this request; 0 unloads it at once, `None` leaves it as it is set.
 */
keep_alive_seconds: number | null, };

/**
 * One text's vector and what made it.
 */
export type Embedding = { 
/**
 * The vector, `dims` long.
 */
embedding: Array<number>, 
/**
 * Width of the vector.
 */
dims: number, 
/**
 * Tokens that were read.
 */
tokens: number, 
/**
 * Set where the text was longer than the model reads.
 */
truncated: Truncation | null, 
/**
 * What made it.
 */
generation: Generation, 
/**
 * Milliseconds; texts of one request share their batch's figures.
 */
timing_ms: Timing, };

/**
 * The vectors of one [`EmbedRequest`], in its order.
 */
export type Embeddings = { 
/**
 * One for each text.
 */
items: Array<Embedding>, };

/**
 * No parameters, or nothing to say in reply.
 */
export type Empty = Record<symbol, never>;

/**
 * A person's word for a followed `.env`.
 */
export type EnvApproval = { 
/**
 * [`EnvStatus::unapproved`], as it was shown: a variable that came meanwhile is not approved with them.
 */
variables: Array<string>, };

/**
 * A line that would change.
 */
export type EnvChange = { 
/**
 * Its number in the file as it is, from 1; for a new line that of the line before which it would stand.
 */
number: number, 
/**
 * What it is; `None` where it is new.
 */
before: string | null, 
/**
 * What it would become; `None` where it would go.
 */
after: string | null, };

/**
 * The `.env` to follow.
 */
export type EnvChoice = { 
/**
 * The absolute path of the file or of its folder; `None` to follow none.
 */
path: string | null, };

/**
 * Something that is wrong in a `.env`.
 */
export type EnvFinding = { 
/**
 * A stable name, such as `coreml_and_mlx`.
 */
code: string, 
/**
 * How bad it is.
 */
severity: EnvSeverity, 
/**
 * The line, from 1.
 */
line: number, 
/**
 * What happens and what to do.
 */
message: string, 
/**
 * What the mend does, in the imperative, for a button; `None` where a person has to do it.
 */
mend: string | null, };

/**
 * A person's word for writing a choice into the followed `.env`.
 */
export type EnvKeep = { 
/**
 * [`EnvProposal::changes`], as they were shown: a file that has changed meanwhile is left alone.
 */
changes: Array<EnvChange>, };

/**
 * The finding to mend.
 */
export type EnvMend = { 
/**
 * [`EnvFinding::code`].
 */
code: string, 
/**
 * [`EnvFinding::line`].
 */
line: number, };

/**
 * What a file would have to say so that a choice lasts.
 */
export type EnvProposal = { 
/**
 * The id of the chosen model.
 */
model: string, 
/**
 * The lines that would change; values of secrets are not in them. Empty where it cannot be written.
 */
changes: Array<EnvChange>, 
/**
 * Why it cannot be written.
 */
refused: string | null, };

/**
 * How bad a finding is.
 */
export type EnvSeverity = "note" | "warning" | "error";

/**
 * The `.env` that is followed; nothing where none is.
 */
export type EnvState = { 
/**
 * The file and what it says.
 */
env: EnvStatus | null, 
/**
 * The files that a person has approved, by path: those that can be followed without another word.
 */
known: Array<string>, };

/**
 * A followed `.env`.
 */
export type EnvStatus = { 
/**
 * The file.
 */
path: string, 
/**
 * Whether it may change what runs.
 */
approved: boolean, 
/**
 * The variables that nobody has approved yet, where it is not approved.
 */
unapproved: Array<string>, 
/**
 * Why the newest save is not in force: what held before goes on to hold.
 */
held_back: Array<string>, 
/**
 * What is wrong with it, by line.
 */
findings: Array<EnvFinding>, 
/**
 * What it means.
 */
values: Array<EnvValue>, 
/**
 * What it has led to, or would lead to if it were approved; a sentence.
 */
effect: string, 
/**
 * A model that was chosen since in the menu bar, the panel or on the command line, where the file asks for another one:
 * it answers until Embedbar ends or the file is saved with another meaning.
 */
chosen: EnvProposal | null, };

/**
 * One setting.
 */
export type EnvValue = { 
/**
 * What it is about.
 */
name: string, 
/**
 * What holds, in words.
 */
value: string, 
/**
 * Where it is written, in words.
 */
origin: string, };

/**
 * What went wrong and what to do about it.
 *
 * `message` is a situation with its values in backticks and no trailing period; `hint` is one sentence of advice.
 */
export type Failure = { 
/**
 * What kind of failure it is.
 */
code: FailureCode, 
/**
 * What happened, with its values.
 */
message: string, 
/**
 * What the reader can do.
 */
hint: string | null, 
/**
 * Whether the same request may succeed later without anything being changed.
 */
retryable: boolean, 
/**
 * When to try again, in whole seconds, where that is known.
 */
retry_after_seconds?: number, };

/**
 * A stable name for what went wrong; the interface decides on it, people read [`Failure::message`].
 */
export type FailureCode = "invalid_request" | "not_found" | "model_invalid" | "model_unsupported" | "worker_failed" | "overloaded" | "loading" | "cancelled" | "io" | "owner_mismatch" | "internal";

/**
 * A folder that is indexed.
 */
export type Folder = { 
/**
 * Absolute path.
 */
path: string, 
/**
 * Files of it that can be found.
 */
files: number, 
/**
 * Passages of these files.
 */
chunks: number, 
/**
 * Files that were left out.
 */
skipped: number, };

/**
 * Names a folder of the index.
 */
export type FolderChoice = { 
/**
 * The folder's absolute path as [`Folder::path`] gives it.
 */
path: string, };

/**
 * Which half of the search found a hit.
 */
export type FoundBy = "words" | "meaning" | "both";

/**
 * What made a vector. Vectors of different generations are never compared.
 */
export type Generation = { 
/**
 * The model's id, such as `all-MiniLM-L6-v2`.
 */
model: string, 
/**
 * 16 hexadecimal digits that name the weights (large files by samples), the tokenizer and the facts that the recipe uses.
 */
revision: string, 
/**
 * What the weights are stored as.
 */
precision: Precision, 
/**
 * The recipe that was applied.
 */
recipe: RecipeName, };

/**
 * One of the governor's measures.
 */
export type GovernorEvent = { 
/**
 * Counts up from 1 while the owner runs.
 */
id: number, 
/**
 * Seconds since it was decided.
 */
age_seconds: number, 
/**
 * What was done.
 */
measure: GovernorMeasure, 
/**
 * What and why, with the numbers; a sentence.
 */
reason: string, 
/**
 * Why it could not be carried out, where that is so.
 */
failed: string | null, 
/**
 * What it changed, measured some seconds later.
 */
effect: string | null, };

/**
 * What the governor did.
 */
export type GovernorMeasure = "unload" | "batch" | "step_down" | "step_up" | "recycle" | "tell";

/**
 * The governor's present.
 */
export type GovernorStatus = { 
/**
 * The plan; `None` where the active model is none of the catalogue's.
 */
plan: PlanStatus | null, 
/**
 * Its last measures, newest first (at most 20).
 */
events: Array<GovernorEvent>, 
/**
 * Whether batches are smaller than the settings say.
 */
small_batches: boolean, 
/**
 * Set where something else stands in for the wanted model: which, and why; a sentence.
 */
stand_in: string | null, };

/**
 * A passage that answers a search.
 */
export type Hit = { 
/**
 * Absolute path of the file.
 */
path: string, 
/**
 * First line of the passage, from 1.
 */
line: number, 
/**
 * Reciprocal-rank-fusion score; higher is better, comparable within one answer only.
 */
score: number, 
/**
 * Cosine of the query's and the passage's vectors, where both are known.
 */
cosine: number | null, 
/**
 * The part of the passage to show.
 */
snippet: string, 
/**
 * The stretches of `snippet` to mark.
 */
marks: Array<Mark>, 
/**
 * The words of the query that the passage holds, in lower case.
 */
matched: Array<string>, 
/**
 * Which half found it.
 */
found_by: FoundBy, };

/**
 * Folders or files to index.
 */
export type IndexRequest = { 
/**
 * Absolute paths.
 */
paths: Array<string>, };

/**
 * What the index holds.
 */
export type IndexSummary = { 
/**
 * The folders.
 */
folders: Array<Folder>, 
/**
 * Some of the files that were left out, the newest first (at most 200).
 */
skipped: Array<SkippedFile>, };

/**
 * Names what is to be looked at.
 */
export type InspectRequest = { 
/**
 * An absolute path, a link to the hub, or a repository there: `owner/name`, with `@revision`, `:Q8_0` or a file's name
 * behind it. A model of the catalogue by its name is its repository.
 */
source: string, };

/**
 * What a model on this machine is, before anything is installed.
 */
export type Inspection = { 
/**
 * What kind of files it is.
 */
kind: ModelKind, 
/**
 * The id that it would get.
 */
name: string, 
/**
 * Its family as its files name it, such as `bert`.
 */
architecture: string | null, 
/**
 * Width of its vectors.
 */
dims: number | null, 
/**
 * The most tokens that its files allow in a text.
 */
max_tokens: number | null, 
/**
 * Numbers in its matrices.
 */
parameters: number | null, 
/**
 * What its matrices are stored as, in words, such as `F16` or `Q4_K, Q6_K`.
 */
stored_as: string | null, 
/**
 * Size of the files that would be taken.
 */
bytes: number, 
/**
 * The licence that its files name.
 */
licence: string | null, 
/**
 * What it is expected to take in memory while it runs.
 */
needs_bytes: number | null, 
/**
 * The model of the catalogue that it is, by name and shapes.
 */
known: string | null, 
/**
 * What a person should know, a sentence each.
 */
notes: Array<string>, };

/**
 * What an installation would be, before a person says yes to it.
 */
export type InstallOffer = { 
/**
 * What [`InstallRequest::source`] is to be.
 */
source: string, 
/**
 * The id that the model gets.
 */
name: string, 
/**
 * Whether a model of that id is installed, which the new one would replace.
 */
replaces: boolean, 
/**
 * What the files are, where they are on this machine.
 */
inspection: Inspection | null, 
/**
 * What has to be fetched, where they are not.
 */
download: DownloadOffer | null, 
/**
 * Precisions that can be made of it afterwards.
 */
ladder: Array<LadderOffer>, 
/**
 * Room on the disk of the home.
 */
disk_available_bytes: number | null, };

/**
 * An installation that is wanted.
 */
export type InstallRequest = { 
/**
 * [`InstallOffer::source`].
 */
source: string, 
/**
 * What a person has said may be fetched ([`DownloadOffer::fetch_bytes`]); nothing is fetched without it.
 */
agreed_bytes: number | null, 
/**
 * The commit that a person has seen; another one is refused.
 */
commit: string | null, 
/**
 * Another id than the offer's.
 */
name: string | null, 
/**
 * Leave the files where they are and point to them.
 */
leave_in_place: boolean, 
/**
 * Precisions to make of it afterwards, while the machine is calm.
 */
ladder: Array<ConvertPrecision>, };

/**
 * A long piece of work.
 */
export type Job = { 
/**
 * Unique while the owner runs.
 */
id: number, 
/**
 * What it does.
 */
kind: JobKind, 
/**
 * What it does it to, such as the folder's path, or `Qwen3-Embedding-0.6B to INT8 GGUF`.
 */
title: string, 
/**
 * Absolute path of the file or folder that it makes; `None` where it makes none.
 */
target: string | null, 
/**
 * How far it is.
 */
state: JobState, 
/**
 * Whether the person has paused it by itself ([`Commands::hold`](crate::Commands::hold)); false where it cannot be.
 */
held: boolean, 
/**
 * What is being counted now: an index job reads files first and embeds passages then.
 */
unit: JobUnit, 
/**
 * Units that are done.
 */
done: number, 
/**
 * Units there are, once they are counted.
 */
total: number | null, 
/**
 * How fast it has been in the last seconds, where it counts bytes and is running.
 */
bytes_per_second: number | null, 
/**
 * How long it still takes at that rate.
 */
seconds_left: number | null, 
/**
 * A line about the present, such as the file being read, or the result at the end.
 */
detail: string, 
/**
 * Since it started.
 */
elapsed_ms: number, };

/**
 * Whether one job is to wait.
 */
export type JobHold = { 
/**
 * As in [`Job::id`].
 */
id: number, 
/**
 * True to have it wait, false to let it go on.
 */
held: boolean, };

/**
 * Names a job.
 */
export type JobId = { 
/**
 * As in [`Job::id`].
 */
id: number, };

/**
 * What a job does.
 */
export type JobKind = "index" | "convert" | "install" | "verify";

/**
 * How far a job is.
 */
export type JobState = { "state": "running" } | { "state": "paused" } | { "state": "cancelling" } | { "state": "done" } | { "state": "cancelled" } | { "state": "failed", 
/**
 * Why.
 */
failure: Failure, };

/**
 * What a job counts.
 */
export type JobUnit = "files" | "passages" | "bytes";

/**
 * A precision that can be made of a model.
 */
export type LadderOffer = { 
/**
 * The precision.
 */
precision: ConvertPrecision, 
/**
 * What it takes on the disk.
 */
bytes: number | null, 
/**
 * Whether it is installed already.
 */
installed: boolean, };

/**
 * Who shares this machine with us. Slower to take than a [`MemoryReading`]: for views that are being looked at.
 */
export type MachineOverview = { 
/**
 * The programs that hold the most memory, the largest first; `None` where they cannot be listed.
 */
programs: Array<ProgramMemory> | null, 
/**
 * The disk with Embedbar's home; `None` where it is not known.
 */
disk: DiskReading | null, };

/**
 * A stretch of [`Hit::snippet`], counted in Unicode scalar values.
 */
export type Mark = { 
/**
 * First character.
 */
start: number, 
/**
 * One past the last.
 */
end: number, };

/**
 * The gauge's history, oldest first.
 */
export type MemoryHistory = { 
/**
 * At most 15 minutes.
 */
points: Array<MemoryPoint>, };

/**
 * A point of the gauge's history.
 */
export type MemoryPoint = { 
/**
 * Seconds before now.
 */
age_seconds: number, 
/**
 * Installed memory minus what is available.
 */
used_bytes: number | null, 
/**
 * The system's word for it.
 */
pressure: Pressure | null, };

/**
 * One reading of the machine. Each figure that could not be taken is `None`.
 */
export type MemoryReading = { 
/**
 * Installed memory, or the container's limit where that is lower.
 */
total_bytes: number | null, 
/**
 * What can be taken without anything being compressed, swapped or killed.
 */
available_bytes: number | null, 
/**
 * The system's word for it.
 */
pressure: Pressure | null, 
/**
 * Swap space in use.
 */
swap_used_bytes: number | null, 
/**
 * Bytes read back from swap per second since the previous reading.
 */
swap_in_bytes_per_second: number | null, 
/**
 * Bytes written to swap per second since the previous reading.
 */
swap_out_bytes_per_second: number | null, 
/**
 * This process's own footprint (macOS: phys_footprint; Linux: anonymous and swapped pages).
 */
own_bytes: number | null, 
/**
 * The worker's footprint, likewise.
 */
worker_bytes: number | null, 
/**
 * The worker's resident set, its mapped weights included.
 */
worker_resident_bytes: number | null, 
/**
 * Bytes of the worker's own memory that were read back from the disk per second since the previous reading.
 */
worker_page_in_bytes_per_second: number | null, 
/**
 * Set where these are the figures of a simulated machine: which one, for every view to say so.
 */
simulated: string | null, };

/**
 * Names a model, such as the one to make active.
 */
export type ModelChoice = { 
/**
 * An id from [`ModelInfo`](crate::ModelInfo), or the path of a model folder or `.gguf` file.
 */
model: string, };

/**
 * One model with all that is known of it.
 */
export type ModelDetails = { 
/**
 * As in the list.
 */
model: ModelInfo, 
/**
 * Where it has come from.
 */
origin: ModelOrigin | null, 
/**
 * What its self-test found.
 */
card: Card | null, 
/**
 * How near its vectors are to those of what it was made of, a sentence.
 */
certificate: string | null, };

/**
 * How far a model can be trusted.
 */
export type ModelHealth = { "health": "untested" } | { "health": "passed" } | { "health": "quarantined", 
/**
 * Why.
 */
reason: string, } | { "health": "missing", 
/**
 * Which.
 */
reason: string, };

/**
 * A model that can be made active.
 */
export type ModelInfo = { 
/**
 * The id that [`ModelChoice`](crate::ModelChoice) takes.
 */
id: string, 
/**
 * Where it lives on disk.
 */
path: string, 
/**
 * Whether it came with the program.
 */
bundled: boolean, 
/**
 * Whether it is the active one.
 */
active: boolean, 
/**
 * Size of its files, wherever they lie.
 */
size_bytes: number, 
/**
 * What of it lies in the home and in nobody else's folder: what removing it gives back.
 */
own_bytes: number, 
/**
 * What kind of files it is, where that is known.
 */
kind: ModelKind | null, 
/**
 * Its precision, where that is known without opening it.
 */
precision: Precision | null, 
/**
 * How far it can be trusted.
 */
health: ModelHealth, 
/**
 * When it last answered, in seconds since 1970.
 */
last_used_at: number | null, };

/**
 * What kind of files a model is.
 */
export type ModelKind = "checkpoint" | "mlx_checkpoint" | "gguf" | "core_ml_package" | "compiled_core_ml";

/**
 * Where an installed model has come from.
 */
export type ModelOrigin = { 
/**
 * A path, or `owner/name` on the hub.
 */
source: string, 
/**
 * The commit, where it is from the hub.
 */
commit: string | null, 
/**
 * The licence.
 */
licence: string | null, 
/**
 * What kind of files it is.
 */
kind: ModelKind, 
/**
 * How its files came into the home.
 */
placed: Placing, 
/**
 * When, in seconds since 1970.
 */
installed_at: number, 
/**
 * Its files, by which it can be verified again.
 */
files: Array<OriginFile>, };

/**
 * The active model, as the lifecycle sees it.
 */
export type ModelState = { "state": "idle" } | { "state": "loading", 
/**
 * The model's id.
 */
model: string, } | { "state": "ready", 
/**
 * What it makes.
 */
generation: Generation, 
/**
 * Width of its vectors.
 */
dims: number, 
/**
 * What runs it.
 */
backend: BackendName, 
/**
 * The most tokens it reads of a text; 0 where that is not known, as of a server on the network.
 */
max_tokens: number, 
/**
 * The worker's process id.
 */
worker_pid: number, 
/**
 * From the start of the process to its first vector.
 */
load_ms: number, 
/**
 * How often a worker of this model died and was replaced.
 */
restarts: number, } | { "state": "failed", 
/**
 * The model's id.
 */
model: string, 
/**
 * Why.
 */
failure: Failure, };

/**
 * The models there are.
 */
export type Models = { 
/**
 * The bundled one first.
 */
models: Array<ModelInfo>, 
/**
 * Size of all their files; what several share is counted once.
 */
total_bytes: number, 
/**
 * The part of it that lies in the home.
 */
own_bytes: number, };

/**
 * Something that another program would give back if it were asked.
 */
export type NeighbourOffer = { 
/**
 * For [`OfferChoice`].
 */
id: string, 
/**
 * Who holds it.
 */
program: string, 
/**
 * The container's or the model's name.
 */
name: string, 
/**
 * More about it, such as the container's image; may be empty.
 */
detail: string, 
/**
 * How much the program says that it holds.
 */
bytes: number | null, 
/**
 * What accepting it does; a sentence without a period.
 */
action: string, 
/**
 * Which kind of thing that is.
 */
kind: OfferKind, };

/**
 * Offers that a person accepts.
 */
export type OfferChoice = { 
/**
 * Of [`NeighbourOffer::id`].
 */
ids: Array<string>, };

/**
 * What accepting an offer does.
 */
export type OfferKind = "unload" | "stop";

/**
 * What came of one offer, or of starting one container again.
 */
export type OfferOutcome = { 
/**
 * The container's or the model's name.
 */
name: string, 
/**
 * Whether nothing is left to be done.
 */
done: boolean, 
/**
 * What happened; a sentence.
 */
sentence: string, };

/**
 * What came of some offers, and what that gained.
 */
export type OfferReceipt = { 
/**
 * One by one.
 */
outcomes: Array<OfferOutcome>, 
/**
 * What is available now and was not before, measured two seconds later. It may well be nothing: Docker Desktop often keeps
 * what its containers held.
 */
gained_bytes: number | null, 
/**
 * The reading before.
 */
before: MemoryReading, 
/**
 * The reading after.
 */
after: MemoryReading, };

/**
 * What other programs would give back.
 */
export type Offers = { 
/**
 * What can be asked for, the largest first.
 */
offers: Array<NeighbourOffer>, 
/**
 * What cannot, and what a person could do; sentences.
 */
notes: Array<string>, 
/**
 * Containers that Embedbar has stopped and will start again, by name.
 */
stopped: Array<string>, };

/**
 * A file to open with the person's own program.
 */
export type OpenRequest = { 
/**
 * Absolute path of a file that the index holds; any other path is refused.
 */
path: string, };

/**
 * A file of an installed model.
 */
export type OriginFile = { 
/**
 * Below the model's folder.
 */
path: string, 
/**
 * In bytes.
 */
bytes: number, 
/**
 * Its sha256.
 */
sha256: string, };

/**
 * Whether bulk work is to be paused.
 */
export type PauseRequest = { 
/**
 * True to pause indexing, conversions and downloads; queries are answered all the same.
 */
paused: boolean, };

/**
 * How files came into the home.
 */
export type Placing = "cloned" | "copied" | "linked" | "moved";

/**
 * A candidate of a plan.
 */
export type PlanRow = { 
/**
 * Model, precision and backend, in words.
 */
candidate: string, 
/**
 * The verdict with its numbers.
 */
sentence: string, 
/**
 * Whether it is installed.
 */
ready: boolean, 
/**
 * Whether it could be used.
 */
verdict: PlanVerdict, 
/**
 * Whether the plan chose it.
 */
chosen: boolean, 
/**
 * Whether it is what answers now.
 */
active: boolean, };

/**
 * The plan for the model that is wanted.
 */
export type PlanStatus = { 
/**
 * The model's id in the catalogue.
 */
model: string, 
/**
 * Who decided about the precision, in words.
 */
wish: string, 
/**
 * Every candidate, the most preferred first.
 */
candidates: Array<PlanRow>, 
/**
 * What was chosen and, where it was chosen against the numbers or nothing was, why; a sentence.
 */
choice: string, 
/**
 * Whether that sentence is a warning.
 */
warns: boolean, 
/**
 * A better candidate for which there is room and that has only to be made; a sentence.
 */
worth_making: string | null, 
/**
 * What that is made of, as [`ConvertRequest::source`] takes it.
 */
source: string | null, 
/**
 * Why nothing large is loaded now, where that is so.
 */
shortage: string | null, };

/**
 * Whether a candidate could be used.
 */
export type PlanVerdict = "fits" | "no_room" | "not_used";

/**
 * What the weights are stored as. Ordered from the widest to the narrowest.
 */
export type Precision = "fp32" | "fp16" | "int8" | "4bit" | "unknown";

/**
 * The system's own word for how short memory is.
 */
export type Pressure = "normal" | "warn" | "critical";

/**
 * What one program holds, all its processes together.
 */
export type ProgramMemory = { 
/**
 * The app's name on macOS, the executable's elsewhere.
 */
name: string, 
/**
 * How many processes it has.
 */
processes: number, 
/**
 * Their footprints (macOS: phys_footprint; Linux: anonymous and swapped pages); where the system refuses one, the resident
 * set instead.
 */
bytes: number, };

/**
 * Which of the model's prompts goes in front of the text.
 */
export type PromptKind = "none" | "query" | "document";

/**
 * What kind of query a [`QueryRecord`] is of.
 */
export type QueryKind = "search" | "embed";

/**
 * What a past query cost.
 */
export type QueryRecord = { 
/**
 * Counts up from 1 while the owner runs.
 */
id: number, 
/**
 * `search` or `embed`.
 */
kind: QueryKind, 
/**
 * What was asked, shortened to 80 characters; empty for `embed`, whose texts are not kept.
 */
label: string, 
/**
 * Seconds since it was answered.
 */
age_seconds: number, 
/**
 * Tokens that were read.
 */
tokens: number, 
/**
 * The embedding's timing.
 */
embedding_ms: Timing, 
/**
 * The search's own time, for a search.
 */
search_ms: number | null, 
/**
 * From arrival to answer.
 */
total_ms: number, 
/**
 * What made the vector.
 */
generation: Generation | null, };

/**
 * How text becomes tokens and hidden states become a vector; the details live with the engine.
 */
export type RecipeName = "native" | "papr";

/**
 * A person's word for a remote endpoint.
 */
export type RemoteAnswer = { 
/**
 * [`RemoteStatus::host`], as it was shown.
 */
host: string, 
/**
 * [`RemoteStatus::model`], as it was shown.
 */
model: string, 
/**
 * Whether it may be used.
 */
allow: boolean, };

/**
 * What a person has said to a remote endpoint.
 */
export type RemoteConsent = "unasked" | "granted" | "refused";

/**
 * A server on the network that may embed for this machine, where the followed `.env` names one.
 */
export type RemoteStatus = { 
/**
 * Its host, with the port where there is one.
 */
host: string, 
/**
 * The model's name there.
 */
model: string, 
/**
 * What leaves this machine; a sentence.
 */
what_leaves: string, 
/**
 * Whether a person has allowed it.
 */
consent: RemoteConsent, 
/**
 * How far its vectors agree with the local model's on a set of sentences, once that was measured; a sentence.
 */
agreement: string | null, };

/**
 * What removing a model came to.
 */
export type Removed = { 
/**
 * What it gave back on the disk.
 */
freed_bytes: number, 
/**
 * What was left where it is, a sentence each.
 */
kept: Array<string>, };

/**
 * A person's word for writing the SDK's lines into the followed `.env`.
 */
export type SdkKeep = { 
/**
 * The model.
 */
model: string, 
/**
 * [`SdkProposal::changes`], as they were shown: a file that has changed meanwhile is left alone.
 */
changes: Array<EnvChange>, };

/**
 * The lines that the Papr SDK needs to use a model, and where they would be written.
 */
export type SdkProposal = { 
/**
 * The model.
 */
model: string, 
/**
 * The followed `.env`; `None` where none is followed.
 */
file: string | null, 
/**
 * The lines themselves, `NAME=value`, to be copied.
 */
lines: Array<string>, 
/**
 * What would change in the file; empty where it has them.
 */
changes: Array<EnvChange>, 
/**
 * Why they cannot be written, or why the SDK cannot use this model.
 */
refused: string | null, };

/**
 * A search of the index.
 */
export type SearchRequest = { 
/**
 * What the person typed.
 */
query: string, 
/**
 * The most hits to return, 1 to 200.
 */
limit: number, };

/**
 * The answer to a [`SearchRequest`].
 */
export type SearchResults = { 
/**
 * The query as it was searched.
 */
query: string, 
/**
 * Best first.
 */
hits: Array<Hit>, 
/**
 * What made the query's vector; `None` where only words were searched.
 */
generation: Generation | null, 
/**
 * Set where the meaning half could not be searched, with the reason.
 */
degraded: string | null, 
/**
 * Passages that were searched.
 */
searched_chunks: number, 
/**
 * Embedding the query, milliseconds.
 */
embedding_ms: Timing, 
/**
 * Searching words and vectors and cutting snippets, milliseconds.
 */
search_ms: number, 
/**
 * From the request's arrival to its answer, milliseconds.
 */
total_ms: number, };

/**
 * A file that was left out of the index and why.
 */
export type SkippedFile = { 
/**
 * Absolute path.
 */
path: string, 
/**
 * A phrase such as `binary` or `12.4 MB, over the limit of 4.0 MB`.
 */
reason: string, };

/**
 * Everything that a view shows, as one snapshot; the latest wins.
 */
export type Snapshot = { 
/**
 * The program's version.
 */
version: string, 
/**
 * The folder of all state.
 */
home: string, 
/**
 * The active model.
 */
model: ModelState, 
/**
 * Whether bulk work is paused.
 */
paused: boolean, 
/**
 * The machine's memory.
 */
memory: MemoryReading, 
/**
 * Running jobs and those that ended lately.
 */
jobs: Array<Job>, 
/**
 * The last queries, newest first (at most 20).
 */
queries: Array<QueryRecord>, 
/**
 * What the index holds.
 */
index: IndexSummary, 
/**
 * Requests that wait for the worker.
 */
waiting: number, 
/**
 * The `.env` that is followed.
 */
env: EnvStatus | null, 
/**
 * What the governor thinks and did.
 */
governor: GovernorStatus, 
/**
 * The server on the network that the followed `.env` names.
 */
remote: RemoteStatus | null, };

/**
 * Where the time of one request went.
 */
export type Timing = { 
/**
 * Waiting for the worker, loading included.
 */
queue: number, 
/**
 * Text to tokens.
 */
tokenize: number, 
/**
 * Tokens to vector.
 */
forward: number, 
/**
 * From the request's arrival to its answer.
 */
total: number, };

/**
 * A hub's token on its way to the place where it is kept. It is never shown.
 */
export type TokenRequest = { 
/**
 * The token; `None` forgets the one that is kept.
 */
token: string | null, };

/**
 * Whether the hub gets a token, and whose.
 */
export type TokenStatus = { 
/**
 * Where the token that would be sent is from, a sentence; `None` where there is none.
 */
source: string | null, 
/**
 * Whether one is kept by Embedbar, be it sent or not.
 */
kept: boolean, 
/**
 * Where Embedbar keeps one, a sentence.
 */
place: string, };

/**
 * How many tokens a text had and how many were read.
 */
export type Truncation = { 
/**
 * Tokens of the whole text, special tokens included.
 */
total_tokens: number, 
/**
 * Tokens that were read.
 */
kept_tokens: number, };

/** Every command: what it takes and what it gives. */
export interface Commands {
  /** The whole picture, once. */
  snapshot: { params: Empty; reply: Snapshot };
  /** Vectors for texts; loads the model where it is not loaded. */
  embed: { params: EmbedRequest; reply: Embeddings };
  /** Starts to index folders or files; progress comes with the snapshots. */
  index: { params: IndexRequest; reply: Job };
  /** Takes a folder out of the index; the folder itself is not touched. */
  forget: { params: FolderChoice; reply: Empty };
  /** Finds passages by words and by meaning. */
  search: { params: SearchRequest; reply: SearchResults };
  /** Opens an indexed file with the person's own program. */
  open: { params: OpenRequest; reply: Empty };
  /** Starts to convert a checkpoint, or gives the job that is at it already; progress comes with the snapshots. */
  convert: { params: ConvertRequest; reply: Job };
  /** Asks a job to stop. What was indexed is kept; of a conversion nothing is left; a download goes on from there when it is
 asked for again. */
  cancel: { params: JobId; reply: Empty };
  /** Pauses or resumes bulk work: indexing, conversions and downloads. */
  pause: { params: PauseRequest; reply: Empty };
  /** Has one installation wait, or lets it go on from where it was. The next in line goes ahead meanwhile, unless the model is being
 placed or tested already. */
  hold: { params: JobHold; reply: Empty };
  /** The models there are, those that are set aside at the end. */
  models: { params: Empty; reply: Models };
  /** What a path, a link or a repository of the hub is, and what installing it would take. Nothing is fetched but lists. */
  inspect: { params: InspectRequest; reply: InstallOffer };
  /** Starts to install a model, or gives the job that is at it already; progress comes with the snapshots. */
  install: { params: InstallRequest; reply: Job };
  /** Limits how fast models are downloaded, from now on. */
  limit_downloads: { params: DownloadLimit; reply: Empty };
  /** How fast models are downloaded at most. */
  download_limit: { params: Empty; reply: DownloadLimit };
  /** All that is known of one model. */
  show_model: { params: ModelChoice; reply: ModelDetails };
  /** Starts to compare a model with what it was when it came, and to test it again. */
  verify: { params: ModelChoice; reply: Job };
  /** Removes a model. Files that are somebody else's stay. */
  remove: { params: ModelChoice; reply: Removed };
  /** Shows a model's files in the file manager. */
  reveal: { params: ModelChoice; reply: Empty };
  /** The lines with which the Papr SDK uses a model. */
  sdk_lines: { params: ModelChoice; reply: SdkProposal };
  /** Writes these lines into the followed `.env`; no other byte of it changes. */
  keep_sdk_lines: { params: SdkKeep; reply: EnvState };
  /** Whether the hub gets a token. */
  token: { params: Empty; reply: TokenStatus };
  /** Keeps a token for the hub, or forgets it. */
  set_token: { params: TokenRequest; reply: TokenStatus };
  /** Makes a model active and waits until it answers. */
  activate: { params: ModelChoice; reply: ModelState };
  /** The followed `.env`, if one is followed. */
  env: { params: Empty; reply: EnvState };
  /** Follows a `.env` and no other, or none any more. An unknown file changes nothing before it is approved. */
  follow: { params: EnvChoice; reply: EnvState };
  /** Lets the followed `.env` change what runs with these variables, and no others. */
  approve_env: { params: EnvApproval; reply: EnvState };
  /** Mends one finding in the followed `.env`; no other byte of it changes. */
  mend_env: { params: EnvMend; reply: EnvState };
  /** Writes the model that was chosen elsewhere into the followed `.env`; no other byte of it changes. */
  keep_in_env: { params: EnvKeep; reply: EnvState };
  /** Allows or refuses the server on the network that the followed `.env` names; nothing is sent to it before. */
  allow_remote: { params: RemoteAnswer; reply: Empty };
  /** A fresh reading of the machine's memory. */
  memory: { params: Empty; reply: MemoryReading };
  /** Who holds memory on this machine, and the room on the home's disk. */
  machine: { params: Empty; reply: MachineOverview };
  /** The gauge's history. */
  memory_history: { params: Empty; reply: MemoryHistory };
  /** Gives back what can honestly be given back, with a receipt. */
  cleanup: { params: CleanupRequest; reply: CleanupReceipt };
  /** What other programs hold and would give back, within a second. */
  offers: { params: Empty; reply: Offers };
  /** Accepts offers; containers that are stopped are started again by `start_again`, or at the next start. */
  accept_offers: { params: OfferChoice; reply: OfferReceipt };
  /** Starts the containers again that Embedbar has stopped, and no others. */
  start_again: { params: Empty; reply: OfferReceipt };
}
