import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { mutated, mutantsOf } from '../src/mutation/operators.js';
import { places } from '../src/mutation/places.js';
import { isEquivalent, reportOf, tableOf } from '../src/mutation/report.js';
import { createTransformer } from '../src/mutation/transform.js';

const root = join(import.meta.dirname, '../..');

/** What each change makes of a text. */
const changed = (source: string, only?: string[]): string[] =>
  mutantsOf(source, only).map((mutant) => mutated(source, mutant));

describe('a change', () => {
  it.each([
    [
      'takes a condition for true and for false',
      'if (a === b) throw c;',
      ['if (true) throw c;', 'if (false) throw c;'],
    ],
    ['turns what joins conditions', 'x(a && !b);', [';', 'x(a || !b);', 'x(a && (b));']],
    ['moves a bound', 'const x = a < 3;', ['const x = a <= 3;', 'const x = a >= 3;']],
    ['turns equality', 'const x = a !== b;', ['const x = a === b;']],
    ['forgets a default', 'const x = a ?? b;', ['const x = (a);']],
    ['turns true and false', 'const x = { y: true };', ['const x = { y: false };']],
    ['counts wrong', 'const x = y + 1;', ['const x = y - 1;']],
    ['leaves a statement or its await out', 'await x();', ['void (x());', ';']],
    ['leaves an early return out', 'for (;;) { return; }', ['for (;;) { ; }']],
    [
      'asks a query for less',
      'find({ where: { id, owner }, lock });',
      [
        ';',
        'find({ where: {  owner }, lock });',
        'find({ where: { id,  }, lock });',
        'find({ where: { id, owner },  });',
      ],
    ],
    [
      'empties the conditions of SQL',
      'const x = `SELECT 1 WHERE a = $1 AND (b OR c) ORDER BY d`;',
      [
        'const x = `SELECT 1 WHERE (true OR (a = $1)) AND (b OR c) ORDER BY d`;',
        'const x = `SELECT 1 WHERE a = $1 AND (true OR ((b OR c))) ORDER BY d`;',
        'const x = `SELECT 1 WHERE a = $1 AND (b OR (false AND (c))) ORDER BY d`;',
      ],
    ],
  ])('%s', (_, source, expected) => {
    expect(changed(source).sort()).toEqual([...expected].sort());
  });

  it('leaves alone what says nothing: types, imports, logs, the only return', () => {
    const source = `import { a } from 'b';
      type T = true;
      function f(): number { return 1; }
      if (n > 0) log.warn('n');
      this.log.info('x');`;
    expect(changed(source)).toEqual([]);
  });

  it('stays within the named functions', () => {
    const source = 'class A { f() { g(); } h() { k(); } }';
    expect(changed(source, ['h'])).toEqual(['class A { f() { g(); } h() { ; } }']);
  });
});

it('reaches the tests of its file alone, without a word on the disk', () => {
  const swc = { jsc: { target: 'es2024', parser: { syntax: 'typescript' } } } as const;
  const source = 'export const add = (n: number): number => n + 1;';
  const [mutant] = mutantsOf(source);
  const file = '/here/a.ts';
  const transformer = createTransformer({ swc, mutant: { ...mutant!, file } });
  const options = { supportsStaticESM: true, config: {}, cacheFS: new Map() } as never;
  const read = (path: string) => transformer.process(source, path, options).code;
  expect(read(file)).toContain('n - 1');
  expect(read('/here/b.ts')).toContain('n + 1');
});

it('counts what was noticed', () => {
  const source = 'const x = a < b;';
  const [one, other] = mutantsOf(source);
  const tried = [
    { ...one!, file: 'f', verdict: 'survived' as const },
    { ...other!, file: 'f', verdict: 'timeout' as const },
  ];
  const report = reportOf('saga', tried);
  expect(report).toMatchObject({ mutants: 2, killed: 1, score: 50, survivors: [tried[0]] });
  expect(tableOf([report])).toMatch(/^saga +1 of +2 +50\.0 %$/);
});

describe('the places', () => {
  const files = places.flatMap((place) => place.files);

  it.each(files.map((each) => [each.file, each] as const))('%s', async (_, place) => {
    const source = await readFile(join(root, place.file), 'utf8');
    for (const test of place.tests) await access(join(root, test));
    const mutants = mutantsOf(source, place.only);
    expect(mutants.length).toBeGreaterThan(2);
    // An exception that excepts nothing any more is a lie.
    for (const each of place.equivalent ?? []) {
      const alone = { ...place, equivalent: [each] };
      const found = mutants.some((mutant) => isEquivalent(alone, mutant));
      expect([each.was, found]).toEqual([each.was, true]);
    }
  });
});
