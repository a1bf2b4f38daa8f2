/** Notices that the window came to the front, with what every webview offers; needs no permission from the shell. */

export function onWindowShown(callback: () => void): () => void {
  const visible = () => {
    if (document.visibilityState === 'visible') callback();
  };
  window.addEventListener('focus', callback);
  document.addEventListener('visibilitychange', visible);
  return () => {
    window.removeEventListener('focus', callback);
    document.removeEventListener('visibilitychange', visible);
  };
}
