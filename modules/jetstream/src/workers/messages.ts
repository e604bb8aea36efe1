import type { EngineInput, OutgoingMessage } from '../engine/engine-io.js';
import type { RunnerOutput } from './runner.js';
import type { WireReader, WireWriter } from './wire.js';

/** How inputs and outputs travel between threads: many in one buffer that is handed over. */
const inputKinds = ['api', 'publish', 'ack', 'flow-control', 'interest'] as const;
/** A publication with its trace behind it. */
const tracedKind = inputKinds.length;
const nothing = Buffer.alloc(0);

export function writeInput(wire: WireWriter, account: number, input: EngineInput): void {
  wire.number(account);
  const trace = input.kind === 'publish' ? input.trace : undefined;
  wire.byte(trace ? tracedKind : inputKinds.indexOf(input.kind));
  wire.text(input.subject);
  if (input.kind === 'interest') {
    wire.byte(input.present ? 1 : 0);
    return;
  }
  if (input.kind === 'flow-control') return;
  wire.text(input.reply);
  wire.bytes(input.payload);
  if (input.kind === 'ack') return;
  wire.bytes(input.headers);
  wire.text(input.kind === 'publish' ? input.stream : (input.reader ?? ''));
  if (!trace) return;
  wire.text(trace.to);
  wire.byte(trace.only ? 1 : 0);
  wire.bytes(trace.event);
}

export function readInput(wire: WireReader): { account: number; input: EngineInput } {
  const account = wire.number();
  const kindByte = wire.byte();
  const kind = inputKinds[kindByte] ?? 'publish';
  const subject = wire.text();
  if (kind === 'interest') {
    return { account, input: { kind, subject, present: wire.byte() === 1 } };
  }
  if (kind === 'flow-control') return { account, input: { kind, subject } };
  const reply = wire.text();
  const payload = wire.bytes() ?? nothing;
  if (kind === 'ack') return { account, input: { kind, subject, reply, payload } };
  const headers = wire.bytes();
  const name = wire.text();
  const sent = { subject, reply, headers, payload };
  if (kindByte === tracedKind) {
    const trace = { to: wire.text(), only: wire.byte() === 1, event: wire.bytes() ?? nothing };
    return { account, input: { kind: 'publish', ...sent, stream: name, trace } };
  }
  if (kind === 'publish') return { account, input: { kind, ...sent, stream: name } };
  return { account, input: { kind, ...sent, ...(name !== '' && { reader: name }) } };
}

const outputKinds = { send: 0, listen: 1, watch: 2, unwatch: 3 } as const;

export function writeSend(wire: WireWriter, account: number, message: OutgoingMessage): void {
  wire.byte(outputKinds.send);
  wire.number(account);
  wire.text(message.to);
  wire.text(message.shown);
  wire.text(message.reply);
  wire.bytes(message.headers);
  wire.bytes(message.payload);
}

export function writeListen(
  wire: WireWriter,
  account: number,
  stream: string,
  subjects: readonly string[],
): void {
  wire.byte(outputKinds.listen);
  wire.number(account);
  wire.text(stream);
  wire.number(subjects.length);
  for (const subject of subjects) wire.text(subject);
}

export function writeWatch(
  wire: WireWriter,
  account: number,
  subject: string,
  kind: 'watch' | 'unwatch',
): void {
  wire.byte(outputKinds[kind]);
  wire.number(account);
  wire.text(subject);
}

type Heard = Pick<RunnerOutput, 'send' | 'listen' | 'watch' | 'unwatch'>;

/** Says to `output` what was written, in order. */
export function readOutputs(wire: WireReader, output: Heard): void {
  while (!wire.ended) {
    const kind = wire.byte();
    const account = wire.number();
    if (kind === outputKinds.send) {
      output.send(account, {
        to: wire.text(),
        shown: wire.text(),
        reply: wire.text(),
        headers: wire.bytes(),
        payload: wire.bytes() ?? nothing,
      });
    } else if (kind === outputKinds.listen) {
      const stream = wire.text();
      const subjects = Array.from({ length: wire.number() }, () => wire.text());
      output.listen(account, stream, subjects);
    } else if (kind === outputKinds.watch) {
      output.watch(account, wire.text());
    } else {
      output.unwatch(account, wire.text());
    }
  }
}
