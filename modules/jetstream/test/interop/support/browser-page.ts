import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { bundleLibraries } from '../../../examples/browser/serve.js';

const scripts = join(import.meta.dirname, '..', 'js');

/**
 * Serves a page with the JS scenarios on a free port of the loopback. The clients' packages are
 * CommonJS, so they come as one script that knows each file by its name.
 */
export async function serveBrowserPage(): Promise<{ url: string; close: () => Promise<void> }> {
  const bundle = await bundleLibraries();
  const server = createServer((request, response) => {
    const name = /^\/([a-z]+\.mjs)$/.exec(request.url ?? '')?.[1];
    const body = name
      ? readFile(join(scripts, name))
      : request.url === '/libraries.js'
        ? bundle
        : '<!doctype html><title>conat</title><script src="/libraries.js"></script>';
    const type = request.url === '/' ? 'text/html' : 'text/javascript';
    void Promise.resolve(body).then(
      (text) => response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(text),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
