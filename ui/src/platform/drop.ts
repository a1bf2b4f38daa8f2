/** Files that are dragged over a page in a browser: that it happens is told, where the files lie is not. */
import type { FileDrop } from './types';

export function onPageDrop(callback: (event: FileDrop) => void, page: Window = window): () => void {
  const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
  const over = (event: DragEvent) => {
    if (!holdsFiles(event)) return;
    // Without this the browser would open the file in place of the page.
    event.preventDefault();
    callback({ phase: 'over', paths: [] });
  };
  const leave = (event: DragEvent) => {
    // Between two elements of the page there is always one that is entered.
    if (event.relatedTarget === null) callback({ phase: 'leave', paths: [] });
  };
  const drop = (event: DragEvent) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    callback({ phase: 'drop', paths: [] });
  };
  page.addEventListener('dragover', over);
  page.addEventListener('dragleave', leave);
  page.addEventListener('drop', drop);
  return () => {
    page.removeEventListener('dragover', over);
    page.removeEventListener('dragleave', leave);
    page.removeEventListener('drop', drop);
  };
}
