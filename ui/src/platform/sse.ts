/**
 * Reads a `text/event-stream`, piece by piece.
 *
 * `EventSource` cannot send the authorization header that `embedbar serve` asks for, so the stream is fetched and parsed here,
 * by the rules of the HTML standard. No reconnecting: that is the caller's.
 */

export interface ServerSentEvent {
  /** `message` where the server named none. */
  event: string;
  data: string;
}

export class EventStreamParser {
  #rest = '';
  #skipLineFeed = false;
  #event = '';
  #data: string[] = [];
  #first = true;

  /** Takes the next piece of text, cut anywhere, and gives the events that it completes. */
  push(text: string): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    if (this.#first && text !== '') {
      this.#first = false;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const character = text[at];
      if (this.#skipLineFeed) {
        this.#skipLineFeed = false;
        if (character === '\n') {
          start = at + 1;
          continue;
        }
      }
      if (character !== '\n' && character !== '\r') continue;
      // A carriage return at the end of a piece may have its line feed in the next one.
      this.#skipLineFeed = character === '\r';
      const event = this.#line(this.#rest + text.slice(start, at));
      this.#rest = '';
      start = at + 1;
      if (event) events.push(event);
    }
    this.#rest += text.slice(start);
    return events;
  }

  #line(line: string): ServerSentEvent | null {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return null; // a comment, sent to keep the connection alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    if (field === 'data') this.#data.push(value);
    return null;
  }

  #dispatch(): ServerSentEvent | null {
    const event = { event: this.#event || 'message', data: this.#data.join('\n') };
    const complete = this.#data.length > 0;
    this.#event = '';
    this.#data = [];
    return complete ? event : null;
  }
}
