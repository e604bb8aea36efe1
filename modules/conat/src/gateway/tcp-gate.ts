import {
  Inject,
  Injectable,
  type OnApplicationBootstrap,
  type OnModuleDestroy,
} from '@nestjs/common';
import { Broker } from '../broker/broker.js';
import { CONAT_OPTIONS, type ConatOptions } from '../conat.module-definition.js';
import { TcpListener, type TcpAddress } from './tcp-listener.js';

/** Opens the TCP listener with the app, when the options ask for it; the gateway drains for both. */
@Injectable()
export class TcpGate implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly listener: TcpListener | undefined;

  constructor(broker: Broker, @Inject(CONAT_OPTIONS) { tcp }: ConatOptions) {
    this.listener = tcp && new TcpListener(broker, tcp);
  }

  /** Where it listens; undefined without `tcp` in the options. */
  get address(): TcpAddress | undefined {
    return this.listener?.address;
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.listener?.listen();
  }

  onModuleDestroy(): void {
    this.listener?.stopAccepting();
  }
}
