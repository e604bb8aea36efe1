/** What scenarios share: connections that end with the scenario, and words for what was seen. */

export const quote = (text) => JSON.stringify(text ?? null);

/** A payload as text; longer ones by their length and sum. */
export function show(message) {
  const { data } = message;
  if (data.length <= 256 && data.every((byte) => byte < 128)) return quote(message.string());
  return `${data.length} bytes ${data.reduce((sum, byte, i) => (sum * 31 + byte + i) % 1_000_003, 0)}`;
}

/** Inboxes of others have different names on different servers; that they are inboxes is the same. */
export const replyKind = (reply) =>
  reply === undefined || reply === '' ? 'none' : /^_(INBOX|R_)\b/.test(reply) ? 'inbox' : reply;

/** @returns a list that fills with what the subscription hears */
export function collect(nc, subject) {
  const messages = [];
  nc.subscribe(subject, { callback: (_, message) => messages.push(message) });
  return messages;
}

/**
 * @param libraries `{ core, jetstream, kv }`: the namespaces of nats.js
 * @param target `{ url, credentials?, apiPrefix?, inboxPrefix?, subjectPrefix? }`
 * @param io `print(line)` and `ask(command)`, which resolves when the test has done it
 */
export function createContext(libraries, target, io, name) {
  const open = [];
  return {
    ...libraries,
    target,
    ask: io.ask,
    print: (...words) =>
      io.print(`${name}: ${words.map(String).join(' ').replaceAll('\n', ' | ')}`),
    s: (subject) => `${target.subjectPrefix ?? ''}${subject}`,
    inbox: () => libraries.core.createInbox(target.inboxPrefix),
    async connect(options = {}) {
      const nc = await libraries.core.wsconnect({
        servers: target.url,
        timeout: 20_000,
        ...(target.credentials ?? {}),
        ...(target.inboxPrefix ? { inboxPrefix: target.inboxPrefix } : {}),
        ...options,
      });
      open.push(nc);
      return nc;
    },
    /** Resolves when the connection's status says `type`. */
    async event(nc, type) {
      for await (const status of nc.status()) if (status.type === type) return;
    },
    /** Waits for a state that a server reaches in its own time. */
    async until(probe) {
      for (const deadline = Date.now() + 20_000; !(await probe());) {
        if (Date.now() > deadline) throw new Error('it did not come to be');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    async close() {
      await Promise.all(open.map((nc) => nc.close().catch(() => undefined)));
    },
  };
}
