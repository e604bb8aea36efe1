import { Controller, Get, Inject, Req, Res } from '@nestjs/common';
import { Broker, brokerMetrics, brokerMetricsType, mayReadMetrics } from '@rookery/conat';
import type { Request, Response } from 'express';
import { CONFIG, type HostConfig } from '../config/config.js';

/** The broker's metrics, for Prometheus on this machine or with the token of the settings. */
@Controller()
export class MetricsController {
  constructor(
    @Inject(Broker) private readonly broker: Broker,
    @Inject(CONFIG) private readonly config: HostConfig,
  ) {}

  @Get('metrics')
  async metrics(@Req() request: Request, @Res() response: Response): Promise<void> {
    if (mayReadMetrics(request, this.config.metricsToken)) {
      response.type(brokerMetricsType).send(await brokerMetrics(this.broker));
    } else {
      response.status(403).type('text').send('Ask on this machine, or with the metrics token.\n');
    }
  }
}
