import { glob, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { catalogueDefinitions, type CatalogueDefinitions } from '@rookery/core';

/**
 * Writes docs/ERRORS.md from the catalogues of all packages, or with `--check` says whether it is
 * current, and which codes nothing ever makes. Apps are loaded from their build by path: the harness
 * imports none of them.
 */
const root = join(import.meta.dirname, '..', '..', '..');
const target = join(root, 'docs', 'ERRORS.md');

/** Where packages keep their catalogues. By source: a build may still hold what was removed. */
const sources = [
  '{modules/*,hub,appliance,cluster}/src/**/*.errors.ts',
  'modules/core/src/errors.ts',
];

const builtPath = (source: string): string =>
  join(root, source.replace('/src/', '/dist/').replace(/\.ts$/, '.js'));

async function catalogues(): Promise<CatalogueDefinitions[]> {
  const found = new Map<string, CatalogueDefinitions>();
  for await (const source of glob(sources, { cwd: root })) {
    const exported = (await import(builtPath(source))) as Record<string, unknown>;
    for (const value of Object.values(exported)) {
      if (typeof value !== 'object' || value === null || !(catalogueDefinitions in value)) continue;
      const definitions = value[catalogueDefinitions] as CatalogueDefinitions;
      const { packageName, codes } = definitions;
      found.set(packageName, {
        packageName,
        codes: { ...found.get(packageName)?.codes, ...codes },
      });
    }
  }
  return [...found.values()].sort((a, b) => a.packageName.localeCompare(b.packageName));
}

function render(all: readonly CatalogueDefinitions[]): string {
  const owner = new Map<string, string>();
  const lines = [
    '# Errors',
    '',
    'Every error carries one of these codes, in problem+json, on the command line and in logs.',
    '"Again" says whether the same call may succeed later by itself.',
    'This page is generated from the packages’ catalogues.',
    '',
  ];
  for (const { packageName, codes } of all) {
    lines.push(
      `## ${packageName}`,
      '',
      '| code | status | again | message |',
      '| --- | --- | --- | --- |',
    );
    for (const [code, definition] of Object.entries(codes).sort()) {
      const other = owner.get(code);
      if (other) throw new Error(`${code} is declared by ${other} and by ${packageName}`);
      owner.set(code, packageName);
      const again = definition.retryable ? 'yes' : '';
      lines.push(
        `| \`${code}\` | ${definition.status} | ${again} | ${definition.message.replaceAll('|', '\\|')} |`,
      );
    }
    lines.push('');
  }
  return lines.join('\n');
}

/**
 * Codes that no source makes: `…Errors.CODE`, or the bare code where a factory is chosen by it.
 * That one asks for a code, or documents it, is no use of it.
 */
async function unusedCodes(all: readonly CatalogueDefinitions[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const source of glob('{modules/*,hub,appliance,cluster}/src/**/*.ts', { cwd: root })) {
    if (source.includes('/contract/')) continue;
    lines.push(...(await readFile(join(root, source), 'utf8')).split('\n'));
  }
  const asking = /CodedError\.is\([^)]*\)|\bcode [!=]== '\w+'|^\s*\*.*|\/\/ .*/g;
  const used = new Set<string>();
  for (const line of lines) {
    const making = line.replace(asking, '').matchAll(/(?:Errors\.|')([A-Z][A-Z0-9_]+)\b/g);
    for (const [, code = ''] of making) used.add(code);
  }
  return all.flatMap(({ codes }) => Object.keys(codes)).filter((code) => !used.has(code));
}

const all = await catalogues();
const text = render(all);
if (process.argv.includes('--check')) {
  const unused = await unusedCodes(all);
  if (unused.length > 0) {
    process.stderr.write(`no source makes these codes: ${unused.join(', ')}\n`);
    process.exitCode = 1;
  }
  const current = await readFile(target, 'utf8').catch(() => '');
  if (current !== text) {
    process.stderr.write('docs/ERRORS.md is out of date: run node harness/dist/docs/errors.js\n');
    process.exitCode = 1;
  }
} else {
  await writeFile(target, text);
}
process.exit();
