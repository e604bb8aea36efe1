// An account's file in a process of its own: `node store.mjs FILE`. Says `open <messages>` once it
// has the file; then, for each line on stdin, does it and says so: `add` (`added <sequence>`, which is
// on disk), `fold`.
import { createInterface } from 'node:readline';
import { openTestStore } from '@rookery/jetstream/testing';

const [file] = process.argv.slice(2);
const store = openTestStore(file);
// A few fill one of the files in front of it.
const payload = Buffer.alloc(300, 'x');
let stream = store.stream('S');
if (!stream) {
  stream = store.createStream('S', '{}', 1n);
  store.commit();
}
process.stdout.write(`open ${stream.state.messages}\n`);

function add() {
  const timeNs = BigInt(stream.state.lastSeq + 1);
  const seq = stream.append({ subject: 'a', timeNs, headers: null, payload });
  store.commit();
  return `added ${seq}`;
}

function fold() {
  store.fold();
  return 'folded';
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${line === 'add' ? add() : fold()}\n`);
}
