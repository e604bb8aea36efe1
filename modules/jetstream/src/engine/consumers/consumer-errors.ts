import { jsError } from '../api-error.js';

/** What a NATS server answers when a consumer cannot be had as asked. */
export const consumerErrors = {
  notFound: () => jsError(404, 10014, 'consumer not found'),
  nameInUse: () => jsError(400, 10013, 'consumer name already in use'),
  durableNotInSubject: () =>
    jsError(400, 10016, 'consumer expected to be durable but no durable name set in subject'),
  durableMismatch: () =>
    jsError(400, 10017, 'consumer name in subject does not match durable name in request'),
  durableNotSet: () =>
    jsError(400, 10018, 'consumer expected to be durable but a durable name was not set'),
  ephemeralWithDurable: () =>
    jsError(400, 10020, 'consumer expected to be ephemeral but a durable name was set in request'),
  createFailed: (reason: string) => jsError(500, 10012, reason),
  limitReached: () => jsError(400, 10026, 'maximum consumers limit reached'),
  deliverWildcards: () => jsError(400, 10079, 'consumer deliver subject has wildcards'),
  pushMaxWaiting: () => jsError(400, 10080, 'consumer in push mode can not set max waiting'),
  deliverCycle: () => jsError(400, 10081, 'consumer deliver subject forms a cycle'),
  maxPendingNeedsAck: () => jsError(400, 10082, 'consumer requires ack policy for max ack pending'),
  smallHeartbeat: () => jsError(400, 10083, 'consumer idle heartbeat needs to be >= 100ms'),
  pullNeedsAck: () =>
    jsError(400, 10084, 'consumer in pull mode requires explicit ack policy on workqueue stream'),
  pullRateLimit: () => jsError(400, 10086, 'consumer in pull mode can not have rate limit set'),
  heartbeatNeedsPush: () =>
    jsError(400, 10088, 'consumer idle heartbeat requires a push based consumer'),
  flowControlNeedsPush: () =>
    jsError(400, 10089, 'consumer flow control requires a push based consumer'),
  directNeedsPush: () => jsError(400, 10090, 'consumer direct requires a push based consumer'),
  directNeedsEphemeral: () => jsError(400, 10091, 'consumer direct requires an ephemeral consumer'),
  invalidPolicy: (reason: string) => jsError(400, 10094, reason),
  invalidSampling: (reason: string) =>
    jsError(400, 10095, `failed to parse consumer sampling configuration: ${reason}`),
  workQueueNeedsExplicit: () => jsError(400, 10098, 'workqueue stream requires explicit ack'),
  workQueueUnfiltered: () =>
    jsError(400, 10099, 'multiple non-filtered consumers not allowed on workqueue stream'),
  workQueueNotUnique: () => jsError(400, 10100, 'filtered consumer not unique on workqueue stream'),
  workQueueNotAll: () => jsError(400, 10101, 'consumer must be deliver all on workqueue stream'),
  nameTooLong: (max: number) =>
    jsError(400, 10102, `consumer name is too long, maximum allowed is ${max}`),
  badName: () => jsError(400, 10103, "durable name can not contain '.', '*', '>'"),
  descriptionTooLong: (max: number) =>
    jsError(400, 10107, `consumer description is too long, maximum allowed is ${max}`),
  flowControlNeedsHeartbeat: () =>
    jsError(400, 10108, 'consumer with flow control also needs heartbeats'),
  invalidDeliverSubject: () => jsError(400, 10112, 'invalid push consumer deliver subject'),
  expiresTooSmall: () => jsError(400, 10115, 'consumer max request expires needs to be >= 1ms'),
  maxDeliverBackoff: () =>
    jsError(400, 10116, 'max deliver is required to be > length of backoff values'),
  maxAckPendingExcess: (limit: number) =>
    jsError(400, 10121, `consumer max ack pending exceeds system limit of ${limit}`),
  replicasExceed: () => jsError(400, 10126, 'consumer config replica count exceeds parent stream'),
  pathSeparators: () => jsError(400, 10127, 'Consumer name can not contain path separators'),
  filterMismatch: () =>
    jsError(
      400,
      10131,
      'Consumer create request did not match filtered subject from create subject',
    ),
  durableAndName: () =>
    jsError(400, 10132, 'Consumer Durable and Name have to be equal if both are provided'),
  replicasShouldMatch: () =>
    jsError(400, 10134, "consumer config replicas must match interest retention stream's replicas"),
  metadataTooLong: (limit: string) =>
    jsError(400, 10135, `consumer metadata exceeds maximum size of ${limit}`),
  duplicateFilters: () =>
    jsError(400, 10136, 'consumer cannot have both FilterSubject and FilterSubjects specified'),
  multipleFilters: () =>
    jsError(400, 10137, 'consumer with multiple subject filters cannot use subject based API'),
  overlappingFilters: () => jsError(400, 10138, 'consumer subject filters cannot overlap'),
  emptyFilter: () => jsError(400, 10139, 'consumer filter in FilterSubjects cannot be empty'),
  alreadyExists: () => jsError(400, 10148, 'consumer already exists'),
  doesNotExist: () => jsError(400, 10149, 'consumer does not exist'),
  inactiveExcess: (limit: number) =>
    jsError(400, 10153, `consumer inactive threshold exceeds system limit of ${limit}`),
  invalidPriorityGroup: () =>
    jsError(400, 10160, 'Provided priority group does not exist for this consumer'),
  pushWithGroups: () => jsError(400, 10178, 'priority groups can not be used with push consumers'),
  groupsWithoutPolicy: () =>
    jsError(400, 10196, 'consumer can not have priority groups when policy is none'),
  ackWaitNegative: () => jsError(400, 10183, 'consumer ack wait needs to be positive'),
  backoffNegative: () => jsError(400, 10184, 'consumer backoff needs to be positive'),
} as const;
