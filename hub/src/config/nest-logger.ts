import type { LoggerService } from '@nestjs/common';
import type { Logger } from '@rookery/core';

/** Nest's own messages, in our log. */
export class NestLogger implements LoggerService {
  constructor(private readonly log_: Logger) {}

  log(message: unknown, context?: string): void {
    this.log_.debug({ context }, String(message));
  }
  warn(message: unknown, context?: string): void {
    this.log_.warn({ context }, String(message));
  }
  error(message: unknown, ...details: unknown[]): void {
    this.log_.error({ details }, String(message));
  }
}
