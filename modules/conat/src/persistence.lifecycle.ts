import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Persistence } from './persistence.js';

/** Closes the files when the last client is gone (the gateway drains before). */
@Injectable()
export class PersistenceLifecycle implements OnApplicationShutdown {
  constructor(@Inject(Persistence) private readonly persistence: Persistence | null) {}

  async onApplicationShutdown(): Promise<void> {
    await this.persistence?.close();
  }
}
