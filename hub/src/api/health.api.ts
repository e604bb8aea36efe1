import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { ApiHandlers, ApiPart } from './handlers.js';

export const hubVersion = '0.1.0';

@Injectable()
export class HealthApi implements ApiPart<'getHealth'> {
  readonly handlers: ApiHandlers<'getHealth'> = {
    getHealth: async () => {
      await this.dataSource.query('SELECT 1');
      return { status: 'ok', version: hubVersion };
    },
  };

  constructor(private readonly dataSource: DataSource) {}
}
