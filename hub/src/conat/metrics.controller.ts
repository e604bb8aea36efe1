import { Controller, Get, Inject, Req, Res } from '@nestjs/common';
import { Broker, brokerMetrics, brokerMetricsType, mayReadMetrics } from '@rookery/conat';
import type { Request, Response } from 'express';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { HubErrors } from '../hub.errors.js';

/** The broker's metrics, for Prometheus on this machine or with the token of the settings. */
@Controller()
export class MetricsController {
  constructor(
    private readonly broker: Broker,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}

  @Get('metrics')
  async metrics(@Req() request: Request, @Res() response: Response): Promise<void> {
    if (!mayReadMetrics(request, this.config.metricsToken)) throw HubErrors.METRICS_FORBIDDEN();
    response.type(brokerMetricsType).send(await brokerMetrics(this.broker));
  }
}
