import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

const scripts = join(import.meta.dirname, '..', 'js');
const require_ = createRequire(import.meta.url);
const libraries = {
  core: '@nats-io/nats-core',
  jetstream: '@nats-io/jetstream',
  kv: '@nats-io/kv',
} as const;

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

/** A script that sets `libraries` to the namespaces that the scenarios take. */
async function bundleLibraries(): Promise<string> {
  const files = new Map<string, string>();
  const add = async (file: string): Promise<void> => {
    if (files.has(file)) return;
    files.set(file, '');
    const source = await readFile(file, 'utf8');
    const needs: Record<string, string> = {};
    for (const [, name] of source.matchAll(/\brequire\(["']([^"']+)["']\)/g)) {
      // What Node has of its own, the clients use only where there is no browser.
      const path = createRequire(file).resolve(name!);
      if (!path.startsWith('/')) continue;
      needs[name!] = path;
      await add(path);
    }
    files.set(
      file,
      `${JSON.stringify(file)}: [${JSON.stringify(needs)}, (require, module, exports) => {\n${source}\n}]`,
    );
  };
  const entries: string[] = [];
  for (const [key, name] of Object.entries(libraries)) {
    const file = require_.resolve(name);
    await add(file);
    entries.push(`${key}: load(${JSON.stringify(file)})`);
  }
  return `(() => {
    const files = {${[...files.values()].join(',\n')}};
    const loaded = {};
    const load = (file) => {
      if (loaded[file]) return loaded[file].exports;
      const module = (loaded[file] = { exports: {} });
      const [needs, run] = files[file];
      run((name) => load(needs[name]), module, module.exports);
      return module.exports;
    };
    window.libraries = {${entries.join(', ')}};
  })();`;
}
