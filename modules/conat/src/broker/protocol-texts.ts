/** The texts of `-ERR '…'` exactly as nats-server writes them: clients parse them. */
export const protocolTexts = {
  unknownOperation: 'Unknown Protocol Operation',
  maximumPayload: 'Maximum Payload Violation',
  maximumControlLine: 'maximum control line exceeded',
  maximumAccountConnections: 'maximum account active connections exceeded',
  maximumConnections: 'maximum connections exceeded',
  maximumSubscriptions: 'maximum subscriptions exceeded',
  /** Not one of nats-server's, which answers any number of PINGs. */
  maximumPings: 'maximum pings exceeded',
  invalidSubject: 'Invalid Subject',
  invalidPublishSubject: 'Invalid Publish Subject',
  invalidClientProtocol: 'invalid client protocol',
  noRespondersNeedsHeaders: 'no responders requires headers support',
  authorizationViolation: 'Authorization Violation',
  authenticationTimeout: 'Authentication Timeout',
  authenticationExpired: 'User Authentication Expired',
  authenticationRevoked: 'User Authentication Revoked',
  staleConnection: 'Stale Connection',
  slowConsumer: 'Slow Consumer',
  publishViolation: (subject: string): string =>
    `Permissions Violation for Publish to "${subject}"`,
  replyViolation: (reply: string): string =>
    `Permissions Violation for Publish with Reply of "${reply}"`,
  subscribeViolation: (subject: string, queue: string): string =>
    queue
      ? `Permissions Violation for Subscription to "${subject}" using queue "${queue}"`
      : `Permissions Violation for Subscription to "${subject}"`,
  tooManyTokens: (subject: string): string =>
    `Permissions Violation for Subscription to "${subject}", too many tokens`,
  subscribeRevoked: (subject: string, queue: string, sid: string): string =>
    queue
      ? `Permissions Violation for Subscription to "${subject}" using queue "${queue}" (sid "${sid}")`
      : `Permissions Violation for Subscription to "${subject}" (sid "${sid}")`,
} as const;

/** Why a connection was closed; shown in metrics and logs. */
export type CloseReason =
  | 'client closed'
  | 'protocol violation'
  | 'maximum payload exceeded'
  | 'maximum control line exceeded'
  | 'maximum connections exceeded'
  | 'authentication failure'
  | 'authentication timeout'
  | 'authentication expired'
  | 'revoked'
  | 'stale connection'
  | 'slow consumer'
  | 'maximum subscriptions exceeded'
  | 'maximum pings exceeded'
  | 'server shutdown';

/** WebSocket close codes as nats-server chooses them. */
export const closeCodes: Readonly<Record<CloseReason, number>> = {
  'client closed': 1000,
  'protocol violation': 1002,
  'maximum payload exceeded': 1009,
  'maximum control line exceeded': 1008,
  'maximum connections exceeded': 1008,
  'authentication failure': 1008,
  'authentication timeout': 1008,
  'authentication expired': 1008,
  revoked: 1008,
  'stale connection': 1001,
  'slow consumer': 1008,
  'maximum subscriptions exceeded': 1008,
  'maximum pings exceeded': 1008,
  'server shutdown': 1001,
};
