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

/** Those of Go and Python; the JS program has more. */
export const commonScenarios = [
  ...coreScenarios,
  'js-publish',
  'js-consume',
  'kv-basics',
  'kv-watch',
] as const;

/** Those of Python's `nats-core`, which knows no maximum of an UNSUB. */
export const natsCoreScenarios = [
  'pubsub',
  'queue',
  'request',
  'headers',
  'drain',
  'reconnect',
  'js-publish',
  'js-consume',
  'kv-basics',
  'kv-watch',
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

/** One scenario's part of a transcript. */
export const linesOf = (scenario: string, transcript: readonly string[]): string[] =>
  transcript.filter((line) => line.startsWith(`${scenario}: `));
