import { Counter, Gauge, type Registry } from 'prom-client';
import type { AccountStatus } from './account-binding.js';
import type { JetStreamCounters } from './jetstream-counters.js';
import { commitMsBounds } from './workers/runner.js';

/** What is looked at when somebody asks. */
interface JetStreamView {
  readonly counters: JetStreamCounters;
  status(): readonly AccountStatus[];
}

/** Adds the metrics of persistence to those of its broker. */
export function registerJetStream(registry: Registry, jetStream: JetStreamView): void {
  const { counters } = jetStream;
  const counter = (name: string, help: string, value: () => number): void => {
    new Counter({
      name: `conat_jetstream_${name}_total`,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  };
  counter('publishes', 'Messages that came for a stream.', () => counters.inputs.publish);
  counter('acks', 'Acknowledgements of consumers.', () => counters.inputs.ack);
  counter('requests', 'Requests to the API.', () => counters.inputs.api);
  counter('refused', 'Inputs that could not be stored.', () => counters.refused);
  counter('commits', 'Transactions, each fsynced.', () => counters.commits.commits);
  counter(
    'committed_inputs',
    'Inputs in all transactions together.',
    () => counters.commits.committedInputs,
  );
  commitTimes(registry, jetStream);
  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      name: `conat_jetstream_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(value());
      },
    });
  };
  const count = (state: string): number =>
    jetStream.status().filter((account) => account.state === state).length;
  gauge('accounts', 'Accounts that are served.', () => count('ready'));
  gauge('accounts_fenced', 'Accounts closed for a move or a backup.', () => count('fenced'));
  gauge('accounts_quarantined', 'Accounts whose file is damaged.', () => count('quarantined'));
  gauge('open_files', 'Accounts whose file is open.', () => counters.openAccounts);
}

/** Threads report buckets; a histogram of prom-client takes only single observations. */
function commitTimes(registry: Registry, { counters: { commits } }: JetStreamView): void {
  const name = 'conat_jetstream_commit_seconds';
  new Counter({
    name: `${name}_bucket`,
    help: 'How long transactions took until they were on disk.',
    labelNames: ['le'],
    registers: [registry],
    collect() {
      this.reset();
      let sum = 0;
      commits.commitMs.forEach((count, i) => {
        sum += count;
        const bound = commitMsBounds[i];
        this.inc({ le: bound === undefined ? '+Inf' : String(bound / 1_000) }, sum);
      });
    },
  });
  new Counter({
    name: `${name}_sum`,
    help: 'Seconds that transactions took.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(commits.commitMsSum / 1_000);
    },
  });
  new Counter({
    name: `${name}_count`,
    help: 'Transactions.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(commits.commits);
    },
  });
}
