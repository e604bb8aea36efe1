import { benchConat } from './conat/conat.bench.js';
import { benchHttp } from './http.bench.js';
import { benchMove } from './move.bench.js';
import { machineText, tableOf, type BenchReport, type BenchRow } from './report.js';
import { benchStart } from './start.bench.js';

/** `./rookery bench [NAME...] [--json]`: figures go to stdout, progress to stderr. */
const benches: Readonly<Record<string, () => Promise<BenchRow[]>>> = {
  start: benchStart,
  http: benchHttp,
  move: benchMove,
  conat: benchConat,
};

async function main(args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  const usage = `usage: ./rookery bench [${Object.keys(benches).join('|')}...] [--json]\n`;
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(usage);
    return 0;
  }
  const names = args.filter((arg) => !arg.startsWith('-'));
  const unknown = names.filter((name) => !(name in benches));
  if (unknown.length > 0 || args.some((arg) => arg.startsWith('-') && arg !== '--json')) {
    process.stderr.write(usage);
    return 2;
  }
  const reports: BenchReport[] = [];
  for (const name of names.length > 0 ? names : Object.keys(benches)) {
    process.stderr.write(`measuring ${name}\n`);
    const rows = (await benches[name]?.()) ?? [];
    const date = new Date().toISOString().slice(0, 10);
    reports.push({ bench: name, date, machine: await machineText(), rows });
    if (!json) process.stdout.write(`${tableOf(reports.at(-1) as BenchReport)}\n`);
  }
  if (json) {
    process.stdout.write(
      `${JSON.stringify(reports.length === 1 ? reports[0] : reports, null, 2)}\n`,
    );
  }
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
