/** Which view a page shows. */
import type { Platform } from './platform';

export type View = 'panel' | 'search' | 'both';

export function chooseView(search: string, kind: Platform['kind']): View {
  const asked = new URLSearchParams(search).get('view');
  if (asked === 'panel' || asked === 'search' || asked === 'both') return asked;
  return kind === 'desktop' ? 'panel' : 'both';
}
