import { PassThrough } from 'node:stream';
import { toCodedError, type CodedError } from '@rookery/core';
import { receiveCommand } from '@rookery/fleet/contract';
import type { ServerChannel } from 'ssh2';
import type { TransferItem, TransferResult } from '../contract.js';
import { ProxyErrors } from '../proxy.errors.js';
import type { IncomingTransfer, TransferReceiver } from './ssh-ingress.ports.js';

/** Reads the one command that a transfer login may run. @throws SSH_COMMAND_REFUSED */
export function parseReceiveCommand(command: string): TransferItem {
  const match = receiveCommand.pattern.exec(command);
  const [, moveId, kind, name] = match ?? [];
  // The pattern's $ also matches before a final line feed.
  if (moveId === undefined || name === undefined || !isKind(kind) || command.endsWith('\n')) {
    throw ProxyErrors.SSH_COMMAND_REFUSED({
      reason: 'the command is not "receive <move> <kind> <name>"',
    });
  }
  return { moveId, kind, name };
}

const isKind = (kind: string | undefined): kind is TransferItem['kind'] =>
  kind === 'snapshot' || kind === 'delta' || kind === 'persistence' || kind === 'image';

/** Hands a channel's bytes to the receiver and answers with the result, or the coded error. */
export async function runReceive(
  channel: ServerChannel,
  transfer: IncomingTransfer,
  receiver: TransferReceiver,
  stallMs: number,
): Promise<void> {
  const abort = new AbortController();
  const stream = new PassThrough({ highWaterMark: 1024 * 1024 });
  // The receiver may not be listening yet, or not any more.
  stream.on('error', () => undefined);
  let bytes = 0;
  let isReceived = false;
  let settle!: () => void;
  /** Resolves when the sender has ended the stream, or anything has broken it off. */
  const settled = new Promise<void>((resolve) => (settle = resolve));
  const breakOff = (error: CodedError): void => {
    clearTimeout(stall);
    abort.abort(error);
    stream.destroy(error);
    settle();
  };
  const stall = setTimeout(
    () => breakOff(ProxyErrors.TRANSFER_STALLED({ timeoutMs: stallMs })),
    stallMs,
  );
  channel.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    stall.refresh();
    if (isReceived) breakOff(ProxyErrors.TRANSFER_FAILED({ reason: 'bytes follow its end' }));
    if (stream.destroyed || stream.write(chunk)) return;
    channel.pause();
    stream.once('drain', () => {
      stall.refresh();
      channel.resume();
    });
  });
  let ended = false;
  channel.once('end', () => {
    ended = saidEof(channel);
    clearTimeout(stall);
    settle();
    if (ended) stream.end();
    else breakOff(ProxyErrors.TRANSFER_FAILED({ reason: 'the sender broke off' }));
  });
  channel.once('close', () => {
    // Before the result: whoever waits for it is gone. After it: nobody listens any more.
    breakOff(ProxyErrors.TRANSFER_FAILED({ reason: 'the sender has gone' }));
  });
  try {
    const received = await receiver.receive(transfer, stream, abort.signal);
    // `btrfs receive` leaves at the stream's own end marker, before the sender has closed its side.
    isReceived = true;
    channel.resume();
    await settled;
    if (!ended) throw ProxyErrors.TRANSFER_FAILED({ reason: 'the sender did not end the stream' });
    succeed(channel, { ...received, bytes });
  } catch (error) {
    fail(channel, abort.signal.aborted ? (abort.signal.reason as CodedError) : error);
  } finally {
    clearTimeout(stall);
    stream.destroy();
  }
}

/**
 * True when the sender itself ended the stream. ssh2 ends a channel's readable side also when the
 * connection is lost; only the channel's state tells the two apart.
 */
function saidEof(channel: ServerChannel): boolean {
  const { incoming } = channel as unknown as { incoming: { state: string } };
  return incoming.state === 'eof';
}

function succeed(channel: ServerChannel, result: TransferResult): void {
  channel.write(`${JSON.stringify(result)}\n`);
  channel.exit(0);
  channel.end();
}

/** One line of JSON on stderr, then exit status 1. */
export function fail(channel: ServerChannel, thrown: unknown): void {
  channel.stderr.write(`${JSON.stringify(toCodedError(thrown))}\n`);
  channel.exit(1);
  channel.end();
}
