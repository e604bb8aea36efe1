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

export const jetStreamScenarios = [] as const;
