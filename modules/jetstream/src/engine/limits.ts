/** What one account may hold in memory and make its thread do, where NATS has no limit. */
export const streamsMax = 10_000;
/** Subjects that one stream listens to. */
export const streamSubjectsMax = 1_000;
/** Tokens of such a subject; the broker takes a few more, for the account's prefix. */
export const subjectTokensMax = 240;
/** Ids of messages that a stream remembers; above it the oldest are forgotten before their time. */
export const messageIdsMax = 500_000;
export const messageIdBytesMax = 32 * 1024 * 1024;
/** What a request for many messages brings at most, unless it asks for less. */
export const batchBytesMax = 16 * 1024 * 1024;
/** Where a stream may begin, or be moved to: all that come after must be exact numbers. */
export const firstSeqMax = 2 ** 52;
