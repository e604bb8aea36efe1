/**
 * A Nest application that is also the way in to services on this machine: whoever brings a token
 * reaches `/<project>/port/<p>/…`, everything else is the application's own.
 */
import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AccessTokenVerifier } from '@rookery/core';
import type { VerificationKey } from '@rookery/core/contract';
import { MemoryRouteTable, ProxyModule } from '@rookery/proxy';

@Controller()
class HealthController {
  @Get('healthz')
  health(): string {
    return 'ok';
  }
}

/** @param keys public keys of whoever mints the tokens */
export async function startHostApp(hostId: string, keys: VerificationKey[]) {
  const routes = new MemoryRouteTable();
  const verifier = new AccessTokenVerifier(keys);

  @Module({
    imports: [ProxyModule.forRoot({ role: 'host', hostId, verifier, routes })],
    controllers: [HealthController],
  })
  class HostApp {}

  const app = await NestFactory.create(HostApp, { logger: false });
  await app.listen(0, '127.0.0.1');
  return { app, routes, url: await app.getUrl() };
}
