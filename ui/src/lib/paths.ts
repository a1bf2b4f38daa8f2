/** Paths as they are shown and as they are typed. Knows nothing of the file system. */

/** The person's home folder, read off a path inside it; `null` where it cannot be told. */
export function homeOf(path: string): string | null {
  return /^(\/(?:Users|home)\/[^/]+|\/root)(?=\/|$)/.exec(path)?.[1] ?? null;
}

export function fileName(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  return trimmed.slice(trimmed.lastIndexOf('/') + 1) || path;
}

/** The folder of a file, without the slash at its end; empty where the path has none. */
export function folderOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : slash === 0 ? '/' : path.slice(0, slash);
}

export function withTilde(path: string, home: string | null): string {
  if (!home) return path;
  if (path === home) return '~';
  return path.startsWith(`${home}/`) ? `~${path.slice(home.length)}` : path;
}

/** At most `limit` characters, with the middle left out: where a path starts and where it ends tell most. */
export function shortenMiddle(text: string, limit: number): string {
  const characters = Array.from(text);
  if (characters.length <= limit) return text;
  const tail = Math.ceil((limit - 1) * 0.65);
  const head = limit - 1 - tail;
  // "github.…" would read as four dots.
  return `${characters.slice(0, head).join('').replace(/[./\s-]+$/, '')}…${characters.slice(-tail).join('')}`;
}

export function shownPath(path: string, home: string | null, limit: number): string {
  return shortenMiddle(withTilde(path, home), limit);
}

/** Whether a text is the id of a model on the hub, such as `Qwen/Qwen3-Embedding-0.6B`. */
export function isModelId(text: string): boolean {
  return /^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(text);
}

/** What was typed or pasted as an absolute path, or `null` where it is none. */
export function typedPath(text: string, home: string | null): string | null {
  let path = text.trim();
  const quoted = /^(['"])(.*)\1$/.exec(path);
  if (quoted) path = quoted[2] ?? '';
  if (home && (path === '~' || path.startsWith('~/'))) path = home + path.slice(1);
  if (!path.startsWith('/')) return null;
  return path.length > 1 ? path.replace(/\/+$/, '') || '/' : path;
}
