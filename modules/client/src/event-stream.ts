import { ClientErrors } from './client.errors.js';

/** One event may be this long; views are a few kilobytes. */
const eventBytesMax = 1024 * 1024;

/** Splits a `text/event-stream` into the data of its events; comments and names are skipped. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let buffered = '';
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffered += decoder.decode(value, { stream: true });
      const lines = buffered.split(/\r\n|\n|\r(?!$)/);
      buffered = lines.pop() ?? '';
      for (const line of lines) {
        if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
        else if (line === '' && data.length > 0) {
          yield data.join('\n');
          data = [];
        }
      }
      if (buffered.length > eventBytesMax || data.length > eventBytesMax / 64) {
        throw ClientErrors.HUB_ANSWER_INVALID({ operation: 'events', reason: 'an endless event' });
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
