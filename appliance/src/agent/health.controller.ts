import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { Response } from 'express';
import { HostRecord } from '../hub/host-record.js';
import { HubLink } from '../hub/hub-link.js';

/** For supervisors and load balancers. The hub's absence is told, but makes no host unready. */
@Controller()
export class HealthController {
  constructor(
    @Inject(HostRecord) private readonly record: HostRecord,
    @Inject(HubLink) private readonly hub: HubLink,
  ) {}

  @Get('healthz')
  healthz(): { status: 'ok' } {
    return { status: 'ok' };
  }

  @Get('readyz')
  async readyz(@Res({ passthrough: true }) response: Response) {
    const joined = (await this.record.get()) !== undefined;
    if (!joined) response.status(503);
    return { status: joined ? 'ok' : 'joining', hub: this.hub.connected ? 'connected' : 'away' };
  }
}
