import { SystemClock } from '@rookery/core';
import { formatTime } from './times.js';

const clock = new SystemClock();

/** Now, to the nanosecond and in nats-server's writing. */
export const systemTime = (): string => formatTime(clock.nowNs());
