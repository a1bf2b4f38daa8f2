import { describe, expect, it } from 'vitest';

import { EventStreamParser, type ServerSentEvent } from './sse';

function read(...pieces: string[]): ServerSentEvent[] {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.push(piece));
}

describe('a stream of events', () => {
  it('gives an event at its empty line and not before', () => {
    expect(read('data: {"a":1}\n')).toEqual([]);
    expect(read('data: {"a":1}\n', '\n')).toEqual([{ event: 'message', data: '{"a":1}' }]);
  });

  it('reads the same wherever it is cut', () => {
    const text = ': hello\r\nevent: snapshot\r\ndata: {"path":"ü 🔑"}\r\n\r\n:\n\ndata:two\ndata: lines\n\nid: 7\rdata: three\r\revent: x\n\n';
    const whole = read(text);
    expect(whole).toEqual([
      { event: 'snapshot', data: '{"path":"ü 🔑"}' },
      { event: 'message', data: 'two\nlines' },
      { event: 'message', data: 'three' },
    ]);
    expect(read(...text.split(''))).toEqual(whole);
    for (let cut = 0; cut <= text.length; cut++) expect(read(text.slice(0, cut), text.slice(cut))).toEqual(whole);
  });

  it('does not take a carriage return and a line feed in two pieces for two line ends', () => {
    expect(read('data: a\r', '\ndata: b\r', '\n\r', '\n')).toEqual([{ event: 'message', data: 'a\nb' }]);
  });

  it('keeps a colon and all but the first space of a value', () => {
    expect(read('data:  a: b \n\n')).toEqual([{ event: 'message', data: ' a: b ' }]);
  });

  it('forgets the name of an event that had no data', () => {
    expect(read('event: snapshot\n\ndata: 1\n\n')).toEqual([{ event: 'message', data: '1' }]);
  });

  it('skips a byte order mark', () => {
    expect(read('\uFEFFdata: 1\n\n')).toEqual([{ event: 'message', data: '1' }]);
  });
});
