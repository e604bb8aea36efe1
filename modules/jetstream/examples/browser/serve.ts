/**
 * Serves a page that talks to a broker with the NATS client for browsers:
 *
 *     rookery conat serve --allow-all --store /tmp/conat
 *     node modules/jetstream/examples/browser/serve.ts
 *
 * A bundler would do what is done here by hand: the clients on npm are CommonJS, so they come as
 * one script, and an import map leads their names to it.
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

const libraries = {
  core: '@nats-io/nats-core',
  jetstream: '@nats-io/jetstream',
  kv: '@nats-io/kv',
} as const;
const require_ = createRequire(import.meta.url);
const folder = import.meta.dirname;

/** @returns a script that sets `libraries` to what the clients export, by the names above */
export async function bundleLibraries(): Promise<string> {
  const files = new Map<string, string>();
  const add = async (file: string): Promise<void> => {
    if (files.has(file)) return;
    files.set(file, '');
    const source = await readFile(file, 'utf8');
    const needs: Record<string, string> = {};
    for (const [, name] of source.matchAll(/\brequire\(["']([^"']+)["']\)/g)) {
      const path = createRequire(file).resolve(name!);
      // What Node has of its own, the clients use only where there is no browser.
      if (!path.startsWith('/')) continue;
      needs[name!] = path;
      await add(path);
    }
    const body = `(require, module, exports) => {\n${source}\n}`;
    files.set(file, `${JSON.stringify(file)}: [${JSON.stringify(needs)}, ${body}]`);
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
    globalThis.libraries = {${entries.join(', ')}};
  })();`;
}

/** What the import map leads a client's name to. */
function moduleOf(key: string, name: string): string {
  const names = Object.keys(require_(name) as object).filter((one) => /^[A-Za-z]\w*$/.test(one));
  return `export const { ${names.join(', ')} } = globalThis.libraries.${key};\n`;
}

export interface ServedPage {
  readonly url: string;
  close(): Promise<void>;
}

/** @param port 0: a free one */
export async function servePage(port: number): Promise<ServedPage> {
  const pages = new Map<string, readonly [type: string, body: string]>([
    ['/', ['text/html', await readFile(join(folder, 'index.html'), 'utf8')]],
    ['/page.mjs', ['text/javascript', await readFile(join(folder, 'page.mjs'), 'utf8')]],
    ['/libraries.js', ['text/javascript', await bundleLibraries()]],
  ]);
  for (const [key, name] of Object.entries(libraries)) {
    pages.set(`/libraries/${key}.js`, ['text/javascript', moduleOf(key, name)]);
  }
  const server = createServer((request, response) => {
    const page = pages.get((request.url ?? '/').split('?', 1)[0]!);
    if (!page) response.writeHead(404).end();
    else response.writeHead(200, { 'content-type': `${page[0]}; charset=utf-8` }).end(page[1]);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

if ((import.meta as { main?: boolean }).main) {
  const { url } = await servePage(8081);
  console.log(`Open ${url}?server=ws://127.0.0.1:4280/conat`);
}
