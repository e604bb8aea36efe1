import 'reflect-metadata';
import { Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { GiB, MiB, newId } from '@rookery/core';
import { RunnerModule, RunnerService, type RunnerModuleOptions } from '@rookery/runner';

@Module({})
class App {
  static with(options: RunnerModuleOptions): DynamicModule {
    return { module: App, imports: [RunnerModule.forRoot(options)] };
  }
}

/** Runs one command in a new project and prints what it says. */
export async function hello(options: RunnerModuleOptions): Promise<string> {
  const app = await NestFactory.createApplicationContext(App.with(options), { logger: ['error'] });
  try {
    const runner = app.get(RunnerService);
    const projectId = newId();
    const fence = { projectId, generation: 1, operationId: newId(), attempt: 1 };
    const quota = { diskBytes: 1 * GiB, memoryBytes: 256 * MiB, cpus: 1, pidsMax: 256 };
    const spec = { image: 'localhost/rookery/debian:13', quota, publicPorts: [] };
    await runner.create(fence, spec);
    await runner.start(fence, spec);
    const session = await runner.exec({ projectId, command: ['echo', 'hello'], env: {} });
    session.stdin.end();
    let text = '';
    session.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await session.exit;
    await runner.delete({ ...fence, operationId: newId() });
    return text;
  } finally {
    await app.close();
  }
}
