import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { Broker, BrokerLimits, brokerMetrics } from '@rookery/conat';
import { JetStream } from '@rookery/jetstream';
import { AllowAllAuthenticator } from '@rookery/conat/testing';

const guide = await readFile(
  join(import.meta.dirname, '..', '..', '..', 'docs', 'conat.md'),
  'utf8',
);

/** A section by its heading, to the next of the same rank. */
function section(heading: string): string {
  const from = guide.indexOf(`\n## ${heading}\n`);
  if (from < 0) throw new Error(`docs/conat.md has no section ${heading}`);
  const end = guide.indexOf('\n## ', from + 1);
  return guide.slice(from, end < 0 ? undefined : end);
}

it('names every limit of the broker with its default', () => {
  const rows = [...section('Limits').matchAll(/^\| `(\w+)` +\| +(\d+) \|/gm)];
  const told = Object.fromEntries(rows.map(([, name, value]) => [name, Number(value)]));
  expect(told).toEqual(BrokerLimits.parse({}));
});

it('names every metric of the broker and of persistence, and no other', async () => {
  const broker = new Broker({ authenticator: new AllowAllAuthenticator() });
  const jetStream = new JetStream({ threads: 0 });
  await jetStream.start(broker);
  const text = await brokerMetrics(broker);
  await jetStream.close();
  const served = new Set(
    [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) =>
      name!.replace(/(commit_seconds)_\w+$/, '$1'),
    ),
  );
  const told = new Set<string>();
  for (const [row] of section('Metrics').matchAll(/^\| `.*$/gm)) {
    let before = '';
    for (const [, name] of row.matchAll(/`(\w+)(?:\{\w+\})?`/g)) {
      // `_x` goes on from the name before it, as far as there is such a metric.
      const whole = name!.startsWith('_') ? longer(before, name!, served) : name!;
      told.add(whole);
      before = whole;
    }
  }
  expect([...told].sort()).toEqual([...served].sort());
});

/** `conat_connections` and `_opened_total`: as much of the former as makes a metric of both. */
function longer(before: string, rest: string, served: ReadonlySet<string>): string {
  const words = before.split('_');
  for (let count = words.length; count > 0; count -= 1) {
    const whole = words.slice(0, count).join('_') + rest;
    if (served.has(whole)) return whole;
  }
  return rest;
}
