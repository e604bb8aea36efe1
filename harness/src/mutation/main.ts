import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MutantJest } from './jest.js';
import { mutantsOf, type Mutant } from './operators.js';
import { places, type Place, type PlaceFile } from './places.js';
import { isEquivalent, lineOf, reportOf, tableOf, type PlaceReport, type Tried } from './report.js';

const usage = `usage: ./rookery mutate [PLACE…] [--file PART] [--operator NAME] [--every N]
                        [--again REPORT] [--jobs N] [--list] [--json]

Changes the code of each place, one line at a time, and says which changes no test notices.
places: ${places.map(({ name }) => name).join(', ')}
  --file PART     only files with this in their path
  --operator NAME only changes of this kind
  --every N       every Nth change: a sample
  --again REPORT  only what survived in that report (a file of --json), after tests were written
  --jobs N        so many at once
  --list          say what would be tried
`;

const root = join(import.meta.dirname, '../../..');

interface Options {
  readonly file: string | undefined;
  readonly operator: string | undefined;
  readonly every: number;
  /** What survived before; none: everything is tried. */
  readonly again: readonly Tried[] | undefined;
  readonly jobs: number;
}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      file: { type: 'string' },
      operator: { type: 'string' },
      again: { type: 'string' },
      every: { type: 'string', default: '1' },
      jobs: { type: 'string', default: String(Math.max(1, availableParallelism() >> 1)) },
      list: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [every, jobs] = [Number(values.every), Number(values.jobs)];
  const chosen = places.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  const known = positionals.every((name) => chosen.some((place) => place.name === name));
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  if (!known || !(every >= 1) || !(jobs >= 1)) {
    process.stderr.write(usage);
    return 2;
  }
  const again = values.again === undefined ? undefined : await survivorsOf(values.again);
  const options = { file: values.file, operator: values.operator, every, again, jobs };
  const jest = await MutantJest.of(root);
  const reports: PlaceReport[] = [];
  for (const place of chosen) {
    if (values.list) await list(place, options);
    else reports.push(await tryPlace(place, options, jest));
  }
  if (values.list) return 0;
  process.stdout.write(`${values.json ? JSON.stringify(reports, null, 2) : tableOf(reports)}\n`);
  return 0;
}

async function survivorsOf(report: string): Promise<Tried[]> {
  const reports = JSON.parse(await readFile(report, 'utf8')) as PlaceReport[];
  return reports.flatMap(({ survivors }) => survivors);
}

const isSame = (place: PlaceFile, one: Mutant, other: Tried): boolean =>
  other.file === place.file && other.start === one.start && other.text === one.text;

async function mutantsIn(place: PlaceFile, options: Options): Promise<Mutant[]> {
  const { every, operator, again } = options;
  const source = await readFile(join(root, place.file), 'utf8');
  return mutantsOf(source, place.only)
    .filter((mutant) => operator === undefined || mutant.operator === operator)
    .filter((mutant) => !isEquivalent(place, mutant))
    .filter((mutant) => again?.some((tried) => isSame(place, mutant, tried)) ?? true)
    .filter((_, at) => at % every === 0);
}

const filesOf = (place: Place, { file = '' }: Options): PlaceFile[] =>
  place.files.filter((each) => each.file.includes(file));

async function list(place: Place, options: Options): Promise<void> {
  for (const each of filesOf(place, options)) {
    for (const mutant of await mutantsIn(each, options)) {
      process.stdout.write(`${lineOf({ ...mutant, file: each.file })}\n`);
    }
  }
}

async function tryPlace(place: Place, options: Options, jest: MutantJest): Promise<PlaceReport> {
  const tried: Tried[] = [];
  for (const { file, tests, ...rest } of filesOf(place, options)) {
    const queue = await mutantsIn({ file, tests, ...rest }, options);
    process.stderr.write(`${place.name}: ${file}, ${queue.length} changes\n`);
    if (!(await jest.prove(tests))) {
      throw new Error(`the tests of ${file} fail without any change: ${tests.join(' ')}`);
    }
    const worker = async (): Promise<void> => {
      for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
        const { start, end, text } = mutant;
        const verdict = await jest.try(tests, { file, start, end, text });
        tried.push({ ...mutant, file, verdict });
        if (verdict === 'survived') {
          process.stderr.write(`  unnoticed  ${lineOf({ ...mutant, file })}\n`);
        }
      }
    };
    await Promise.all(Array.from({ length: options.jobs }, worker));
  }
  return reportOf(place.name, tried);
}

process.exitCode = await main(process.argv.slice(2));
