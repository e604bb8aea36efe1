import { describe, expect, it } from '@jest/globals';
import { Random } from '@rookery/core/testing';
import { admitAttempt, newestClaim, noAttempts, type KnownAttempts } from '../src/attempts.js';

const alone = { exclusive: true };
const beside = { exclusive: false };

describe('attempts', () => {
  it('let a backup go on beside a stop that was claimed after it', () => {
    let known = admitAttempt(noAttempts, { operationId: 'stop', attempt: 1, claim: 8 }, alone);
    known = admitAttempt(known, { operationId: 'backup', attempt: 1, claim: 7 }, beside);
    expect(known.exclusiveClaim).toBe(8);
    expect(admitAttempt(known, { operationId: 'backup', attempt: 1, claim: 7 }, beside)).toBe(
      known,
    );
  });

  it('go by operation alone for a hub that numbers no claims', () => {
    let known = admitAttempt(noAttempts, { operationId: 'a', attempt: 2 }, alone);
    known = admitAttempt(known, { operationId: 'b', attempt: 1 }, alone);
    expect(() => admitAttempt(known, { operationId: 'a', attempt: 1 }, alone)).toThrow('attempt 2');
    admitAttempt(known, { operationId: 'a', attempt: 2 }, alone);
  });

  it.each([1, 2, 3])('stay few and let nothing stale in (seed %i)', (seed) => {
    const random = new Random(seed);
    let known: KnownAttempts = noAttempts;
    const sent: { operationId: string; attempt: number; claim: number; exclusive: boolean }[] = [];
    // One after the other has the project for itself, some are claimed again, some run beside.
    for (let claim = 1; claim <= 500; claim += 1) {
      const last = sent.findLast((each) => each.exclusive);
      const again = last !== undefined && random.chance(0.3);
      const exclusive = again || random.chance(0.7);
      const call = {
        operationId: again ? last.operationId : `operation ${claim}`,
        attempt: again ? last.attempt + 1 : 1,
        claim,
        exclusive,
      };
      sent.push(call);
      known = admitAttempt(known, call, call);
      expect(known.operations.length).toBeLessThanOrEqual(32);
      const late = random.pick(sent);
      const newest = sent.findLast((each) => each.operationId === late.operationId)!;
      const overtaken =
        late.attempt < newest.attempt ||
        (late.exclusive && sent.some((each) => each.exclusive && each.claim > late.claim));
      if (overtaken) expect(() => admitAttempt(known, late, late)).toThrow();
      if (late === call) expect(admitAttempt(known, late, late)).toBe(known);
    }
    expect(newestClaim(known)).toBe(500);
  });
});
