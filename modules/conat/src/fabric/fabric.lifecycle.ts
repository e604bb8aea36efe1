import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Broker } from '../broker/broker.js';
import type { ConatOptions } from '../conat.module-definition.js';
import { Fabric } from './fabric.js';
import { InProcessFabric } from './in-process.fabric.js';
import { NatsFabric } from './nats.fabric.js';

/** What the options ask for. */
export function fabricOf({ fabric, name }: ConatOptions): Fabric {
  if (fabric instanceof Fabric) return fabric;
  return fabric === 'in-process' ? new InProcessFabric() : new NatsFabric(fabric, { name });
}

/** Leaves the fabric when the last client is gone (the gateway drains before). */
@Injectable()
export class FabricLifecycle implements OnApplicationShutdown {
  constructor(private readonly broker: Broker) {}

  async onApplicationShutdown(): Promise<void> {
    await this.broker.fabric.close();
  }
}
