/** Subjects, times and identities as a NATS broker has them. Knows no NestJS. */
export {
  audienceOf,
  inboxPrefixOf,
  inboxRoot,
  isLiteral,
  parseFilter,
  PatternSet,
} from './broker/subjects.js';
export {
  formatSeconds,
  formatTime,
  msToNs,
  nsToMs,
  parseDuration,
  parseTime,
  zeroTime,
} from './broker/times.js';
export { spaceRootDefault, spaceSubjects, type SubjectSpace } from './edge/space.js';
export type { JetStreamQuota } from './persistence.js';
export type { ConatIdentity, ConatPermissions, ReplyRules, SubjectRules } from './auth/identity.js';
