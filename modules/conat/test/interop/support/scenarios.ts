/** What each program of each language can do; the names are those of its scenarios. */
export const coreScenarios = [
  'pubsub',
  'wildcard',
  'queue',
  'request',
  'headers',
  'drain',
  'unsub-max',
  'reconnect',
] as const;

export const jetStreamScenarios = [
  'js-streams',
  'js-publish',
  'js-consume',
  'js-redelivery',
  'js-policies',
  'js-work-queue',
  'js-reconnect',
  'kv-basics',
  'kv-watch',
  'kv-ttl',
] as const;
