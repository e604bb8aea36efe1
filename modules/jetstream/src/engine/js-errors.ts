import { jsError, type JetStreamApiError } from './api-error.js';

/**
 * Errors of the API that concern accounts, streams and publishing: status, number and text as
 * nats-server 2.15 has them (its `errors.json`), because clients look at all three.
 */
const fixed = (code: number, errCode: number, text: string) => (): JetStreamApiError =>
  jsError(code, errCode, text);
const said = (code: number, errCode: number) => (text: string) => jsError(code, errCode, text);

export const jsErrors = {
  accountResources: fixed(400, 10002, 'resource limits exceeded for account'),
  badRequest: fixed(400, 10003, 'bad request'),
  clusterRequired: fixed(503, 10010, 'JetStream clustering support required'),
  snapshotDeliverSubjectInvalid: fixed(400, 10015, 'deliver subject not valid'),
  insufficientResources: fixed(503, 10023, 'insufficient resources'),
  invalidJson: (why: string) => jsError(400, 10025, `invalid JSON: ${why}`),
  maximumStreams: fixed(400, 10027, 'maximum number of streams reached'),
  insufficientMemory: fixed(500, 10028, 'insufficient memory resources available'),
  noMessageFound: fixed(404, 10037, 'no message found'),
  notEmptyRequest: fixed(400, 10038, 'expected an empty request payload'),
  notEnabledForAccount: fixed(503, 10039, 'JetStream not enabled for account'),
  sequenceNotFound: (seq: number) => jsError(400, 10043, `sequence ${seq} not found`),
  insufficientStorage: fixed(500, 10047, 'insufficient storage resources available'),
  streamGeneral: said(500, 10051),
  streamInvalidConfig: said(500, 10052),
  messageExceedsMaximum: fixed(400, 10054, 'message size exceeds maximum allowed'),
  streamMismatch: fixed(400, 10056, 'stream name in subject does not match request'),
  messageDeleteFailed: said(500, 10057),
  streamNameExists: fixed(400, 10058, 'stream name already in use with a different configuration'),
  streamNotFound: fixed(404, 10059, 'stream not found'),
  streamNotMatch: fixed(400, 10060, 'expected stream does not match'),
  restoreFailed: (why: string) => jsError(500, 10062, `restore failed: ${why}`),
  snapshotFailed: (why: string) => jsError(500, 10064, `snapshot failed: ${why}`),
  subjectOverlap: fixed(400, 10065, 'subjects overlap with an existing stream'),
  streamUpdateFailed: said(500, 10069),
  wrongLastMsgId: (id: string) => jsError(400, 10070, `wrong last msg ID: ${id}`),
  wrongLastSequence: (seq: number) => jsError(400, 10071, `wrong last sequence: ${seq}`),
  replicasNotSupported: fixed(500, 10074, 'replicas > 1 not supported in non-clustered mode'),
  storeFailed: said(503, 10077),
  headerExceedsMaximum: fixed(400, 10097, 'header size exceeds maximum allowed of 64k'),
  streamSealed: fixed(400, 10109, 'invalid operation on sealed stream'),
  purgeFailed: said(500, 10110),
  rollupFailed: said(500, 10111),
  streamNamePath: fixed(400, 10128, 'Stream name can not contain path separators'),
  streamNameExistsRestore: fixed(400, 10130, 'stream name already in use, cannot restore'),
  replicasNegative: fixed(400, 10133, 'replicas count cannot be negative'),
  pedantic: (why: string) => jsError(400, 10157, `pedantic mode: ${why}`),
  ttlInvalid: fixed(400, 10165, 'invalid per-message TTL'),
  ttlDisabled: fixed(400, 10166, 'per-message TTL is disabled'),
  countersDisabled: fixed(400, 10168, 'message counters is disabled'),
  counterInvalid: fixed(400, 10171, 'message counter increment is invalid'),
  atomicPublishDisabled: fixed(400, 10174, 'atomic publish is disabled'),
  requiredApiLevel: fixed(412, 10185, 'JetStream minimum api level required'),
  schedulesDisabled: fixed(400, 10188, 'message schedules is disabled'),
  expectedSubjectSeqMissing: fixed(
    400,
    10193,
    'missing sequence for expected last sequence per subject',
  ),
  batchPublishDisabled: fixed(400, 10205, 'batch publish is disabled'),
  schedulerInvalid: fixed(400, 10212, 'message schedules invalid scheduler'),
  sourceHeaderNotAllowed: fixed(400, 10227, 'message stream source header is not allowed'),
} as const;
