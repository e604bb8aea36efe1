import { z } from 'zod';
import type { ApiInput } from '../engine-io.js';
import { jsErrors } from '../js-errors.js';
import { hasWildcards, isValidSubject } from '../subject-match.js';
import { StreamConfig } from '../stream-config.js';
import { checkStreamConfig } from './config-check.js';
import { isEmptyRequest, readRequest } from './request.js';
import type { StreamSet } from './stream-set.js';

const SnapshotRequest = z.strictObject({
  deliver_subject: z.string().default(''),
  no_consumers: z.boolean().default(false),
  chunk_size: z.number().default(0),
  window_size: z.number().default(0),
  jsck: z.boolean().default(false),
});
const RestoreRequest = z.strictObject({
  config: StreamConfig,
  state: z.looseObject({}).optional(),
});

/**
 * What a server does with its own file format: refused in its words, after its checks. Streams are
 * copied with their account's file (snapshots, backups, moves).
 */
export class SnapshotApi {
  constructor(private readonly streams: StreamSet) {}

  snapshot(request: ApiInput, name: string): never {
    if (isEmptyRequest(request.payload)) throw jsErrors.badRequest();
    if (!this.streams.get(name)) throw jsErrors.streamNotFound();
    const { deliver_subject: subject } = readRequest(SnapshotRequest, request);
    if (!isValidSubject(subject) || hasWildcards(subject)) {
      throw jsErrors.snapshotDeliverSubjectInvalid();
    }
    throw jsErrors.snapshotFailed('not supported');
  }

  restore(request: ApiInput, name: string): never {
    if (isEmptyRequest(request.payload)) throw jsErrors.badRequest();
    const { config } = readRequest(RestoreRequest, request);
    const given = { ...config, name: config.name || name };
    if (given.name !== name) throw jsErrors.streamMismatch();
    if (/[\\/]/.test(name)) throw jsErrors.streamNamePath();
    checkStreamConfig(given, false);
    if (this.streams.get(name)) throw jsErrors.streamNameExistsRestore();
    throw jsErrors.restoreFailed('not supported');
  }
}
