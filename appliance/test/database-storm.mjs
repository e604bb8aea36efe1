// Many writers of a host's books side by side, in a process of its own, to be killed:
// `node database-storm.mjs FILE SEED OPERATIONS`. Each writer counts what it has written; a line
// `<writer> <count>` on stdout says that the host's database has confirmed it. `end` says that all
// have done their share; nothing is closed.
import { AccessStore } from '../dist/access/access-store.js';
import { SqliteHostProjects, SqliteIngressGate } from '../dist/projects/move-projects.js';
import { ProjectRepository } from '../dist/projects/project.repository.js';
import { SqliteBackupJournal, SqliteMoveJournal } from '../dist/projects/sqlite-journals.js';
import { openDatabase } from '../dist/database/database.js';
import { SystemClock } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { accountOf, moveOf, projectOf, urlOf } from './database-storm.names.mjs';

const [file, seed, operations] = process.argv.slice(2);
const projects = 4;
const spec = ProjectSpec.parse({ image: 'x', quota: {} });

const clock = new SystemClock();
const database = await openDatabase(file);
const books = new ProjectRepository(database, clock);
const access = new AccessStore(database, clock, 60_000);
await access.open();
const control = {
  stop: async () => undefined,
  ensureRunning: async () => undefined,
  endWriters: async () => undefined,
};
const moves = new SqliteHostProjects(books, control);
const gate = new SqliteIngressGate(books);
const moveJournal = new SqliteMoveJournal(database);
const backupJournal = new SqliteBackupJournal(database);

const moveRow = (n, count) => ({
  ...{ moveId: moveOf(n), projectId: projectOf(n), generation: 1, attempt: count },
  updatedAt: 1,
});

/** Each takes its count from 1; what it does at a count can be told from the count. */
const writers = {};
for (let n = 0; n < projects; n += 1) {
  const id = projectOf(n);
  const away = projectOf(n + projects);
  writers[`fence ${n}`] = (count) =>
    count % 2 ? moves.fenceForMove(id, moveOf(count)) : moves.unfence(id, moveOf(count - 1));
  writers[`note ${n}`] = (count) =>
    books.change(id, (_row, save) => save({ imageRef: String(count) }));
  writers[`gate ${n}`] = (count) => (count % 2 ? gate.hold(id) : gate.release(id));
  writers[`away ${n}`] = (count) => {
    if (count % 3 === 1) return moves.adopt(away, count, spec, true);
    if (count % 3 === 2) return gate.moved(away, urlOf(count));
    return moves.forget(away, urlOf(count));
  };
  writers[`out ${n}`] = (count) =>
    moveJournal.saveOutgoing({
      ...{ ...moveRow(n, count), state: 'copying', confirmed: [], pictures: [], rounds: [] },
    });
  writers[`in ${n}`] = (count) =>
    moveJournal.saveIncoming({ ...moveRow(n, count), needBytes: 1, state: 'authorized' });
  writers[`job ${n}`] = (count) => {
    const fence = { projectId: id, generation: 1, operationId: moveOf(n), attempt: count };
    return backupJournal.put({ fence, kind: 'backup', state: 'running', startedAt: 1 });
  };
  await books.change(id, (_row, save) => save({ spec, generation: 1 }));
}
writers['access'] = (count) =>
  access.apply(count, [
    {
      accountId: accountOf(count % 3),
      projects: [{ projectId: projectOf(count), role: 'editor' }],
    },
  ]);

/** mulberry32 */
let state = Number(seed);
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};

let left = Number(operations);
await Promise.all(
  Object.entries(writers).map(async ([name, write]) => {
    for (let count = 1; left > 0; count += 1) {
      left -= 1;
      await write(count);
      process.stdout.write(`${name.replace(' ', ':')} ${count}\n`);
      for (let turns = Math.floor(random() * 4); turns > 0; turns -= 1) await Promise.resolve();
      if (random() < 0.1) await new Promise((resolve) => setImmediate(resolve));
    }
  }),
);
await new Promise((resolve) => process.stdout.write('end 0\n', resolve));
process.kill(process.pid, 'SIGKILL');
