/** Code where an unnoticed break costs a project, and the tests that must notice it. */
export interface Place {
  readonly name: string;
  readonly what: string;
  readonly files: readonly PlaceFile[];
}

export interface PlaceFile {
  /** From the repository's root, as the tests are. */
  readonly file: string;
  readonly tests: readonly string[];
  /** Functions and methods that are meant, when it is not the whole file. */
  readonly only?: readonly string[];
  /** Mutants that no test can notice, and why. */
  readonly equivalent?: readonly Equivalent[];
}

interface Equivalent {
  /** What stands there, or the part of it that says which one. */
  readonly was: string;
  /** What stands there instead; none: whatever it is. */
  readonly text?: string;
  /** Part of the line on which it begins, where the same stands elsewhere too. */
  readonly on?: string;
  readonly why: string;
}

const moveTests = ['move-requests', 'move-project', 'move-hosts'].map(
  (name) => `modules/move/test/${name}.test.ts`,
);
const sagaTests = ['saga-run', 'saga'].map((name) => `modules/move/test/${name}.test.ts`);
const jetstreamTests = [
  'account-store.conformance',
  'account-store-crash',
  'jetstream-damage',
  'jetstream-engine',
].map((name) => `modules/jetstream/test/${name}.test.ts`);

const saga: Place = {
  name: 'saga',
  what: 'the executor of sagas and the steps of a move',
  files: [
    {
      file: 'modules/move/src/move-project.saga.ts',
      tests: moveTests,
      equivalent: [{ was: 'state.bytes ?? 0', why: 'the steps before have counted them' }],
    },
    {
      file: 'modules/move/src/saga/saga.lease.ts',
      tests: ['modules/move/test/saga-lease.test.ts'],
      equivalent: [
        { was: 'true', text: 'false', why: 'a signal aborts once, and its listener is removed' },
      ],
    },
    {
      file: 'modules/move/src/saga/saga.run.ts',
      tests: sagaTests,
      equivalent: [
        { was: 'true', text: 'false', on: 'once: true', why: 'a signal aborts once' },
        { was: 'keeper', on: 'await keeper', why: 'what it waits for has been told to end' },
        {
          was: 'failure',
          text: 'false',
          on: 'new Stuck(failure)',
          why: 'forward only, no failure is returned but thrown',
        },
      ],
    },
    ...['saga.executor', 'saga', 'progress-sink'].map((name) => {
      return { file: `modules/move/src/saga/${name}.ts`, tests: sagaTests };
    }),
  ],
};

const fence: Place = {
  name: 'fence',
  what: 'what shuts out writers and older attempts while a project moves',
  files: [
    {
      file: 'modules/move/src/move-source.service.ts',
      tests: ['modules/move/test/move-source.test.ts', 'modules/move/test/move-hosts.test.ts'],
      equivalent: [
        {
          was: "move.state === 'retired'",
          text: 'false',
          on: 'return;',
          why: 'who retires has looked before, and nothing is left to be removed',
        },
      ],
    },
    {
      file: 'modules/move/src/outgoing-rows.ts',
      tests: ['modules/move/test/move-source.test.ts'],
    },
    {
      file: 'modules/runner/src/fence-guard.ts',
      tests: ['fence-guard', 'runner-service'].map((test) => {
        return `modules/runner/test/${test}.test.ts`;
      }),
      equivalent: [
        { was: '>=', text: '>', why: 'the check that follows lets the same generation pass' },
      ],
    },
    {
      file: 'appliance/src/projects/move-projects.ts',
      tests: ['move-projects', 'project-repository'].map(
        (test) => `appliance/test/${test}.test.ts`,
      ),
    },
  ],
};

const placement: Place = {
  name: 'placement',
  what: 'the transactions that change the owner, and whose reports the hub believes',
  files: [
    {
      file: 'hub/src/operations/postgres-placement-authority.ts',
      tests: ['hub/test/placement-authority.itest.ts'],
      equivalent: [
        { was: '<', text: '<=', on: 'const forward', why: 'nobody sets the state undoing by hand' },
      ],
    },
    {
      file: 'hub/src/hosts/host-registry.service.ts',
      only: ['believe'],
      tests: ['hub/test/hosts.itest.ts'],
    },
  ],
};

const reconcilers: Place = {
  name: 'reconcilers',
  what: 'what repairs containers and volumes by itself, and could destroy them',
  files: [
    ...['container.plan', 'container.reconciler'].map((name) => {
      const own = name.replace('.', '-');
      const tests = [own, 'runner-service'].map((test) => `modules/runner/test/${test}.test.ts`);
      return { file: `modules/runner/src/${name}.ts`, tests };
    }),
    {
      file: 'modules/storage/src/btrfs/reconcile-plan.ts',
      tests: ['modules/storage/test/reconcile-plan.test.ts'],
    },
    {
      file: 'appliance/src/reconcile/reconciler.ts',
      tests: ['appliance/test/reconciler.test.ts'],
      equivalent: [{ was: 'this.wake = undefined;', why: 'to wake what is awake does nothing' }],
    },
  ],
};

const writeAheadLog: Place = {
  name: 'write-ahead-log',
  what: "JetStream's write-ahead log: what was acknowledged is there after a crash",
  files: [
    {
      file: 'modules/jetstream/src/store/write-ahead-log.ts',
      tests: ['write-ahead-log', 'account-store-crash'].map(
        (test) => `modules/jetstream/test/${test}.test.ts`,
      ),
      equivalent: [
        { was: 'this.made', text: 'true', on: 'used()', why: 'a missing folder has no files' },
        { was: '!file', text: 'false', why: 'what it is used for then fails, and is refused' },
        { was: 'true', text: 'false', on: 'rmSync', why: 'what fails there is passed over' },
        { was: 'this.made = true;', why: 'it would be made, and found there, each time' },
        { was: 'return undefined;', why: 'nothing is returned in its place' },
        { was: '!existsSync(path)', text: 'true', why: 'a file that comes next is empty' },
      ],
    },
    {
      file: 'modules/jetstream/src/store/sqlite-account.store.ts',
      only: ['takeOver', 'commit', 'rollback', 'fold', 'commitFile', 'addTail', 'appended'],
      tests: jetstreamTests,
    },
  ],
};

const edgeTests = [
  'conat/test/subject-space',
  'conat/test/lengths',
  'conat/test/protocol',
  'fleet/test/permissions',
  'fleet/test/rooted',
  'fleet/test/jetstream-access',
].map((name) => `modules/${name}.test.ts`);

const edge: Place = {
  name: 'edge',
  what: "between a client's subjects and the broker's: nothing of others can be named or heard",
  files: [
    {
      file: 'modules/conat/src/edge/subject-space.ts',
      tests: ['conat/test/subject-space', 'fleet/test/rooted'].map(
        (name) => `modules/${name}.test.ts`,
      ),
    },
    ...['reply-aliases', 'kv-alias'].map((name) => {
      return { file: `modules/conat/src/edge/${name}.ts`, tests: edgeTests };
    }),
    {
      file: 'modules/conat/src/broker/connection-traffic.ts',
      only: ['publish', 'deliver', 'mayHear', 'recheck', 'translate', 'partsOf'],
      tests: edgeTests,
    },
    { file: 'modules/conat/src/broker/parser.ts', only: ['subjectAt'], tests: edgeTests },
  ],
};

/** What is remembered is found out anew otherwise, and what is filtered without need passes. */
const onlyQuicker = [
  ['subject === this.lastAllowed', 'false'],
  ['allowed', 'false'],
  ['this.lastAllowed = subject;', ';'],
  ['verdict === undefined', 'true'],
  ['reachesInboxes || this.subscribeDeny.overlaps(tokens)', 'true'],
  ['this.grants.size > this.repliesMax', 'true'],
].map(([was, text]) => ({ was: was!, text: text!, why: 'it is only quicker' }));

const permissions: Place = {
  name: 'permissions',
  what: 'who may do what, in messages and in the API',
  files: [
    {
      file: 'modules/fleet/src/auth/permissions.ts',
      tests: ['permissions', 'rooted'].map((test) => `modules/fleet/test/${test}.test.ts`),
    },
    {
      file: 'modules/conat/src/broker/permission-check.ts',
      tests: ['conat/test/permission-check', 'fleet/test/permissions'].map(
        (test) => `modules/${test}.test.ts`,
      ),
      equivalent: [
        ...onlyQuicker,
        {
          was: 'this.grants.get(reply)?.until ?? 0',
          why: 'nothing is no later than a time',
          text: '(this.grants.get(reply)?.until)',
        },
      ],
    },
    {
      file: 'hub/src/projects/project.queries.ts',
      tests: ['hub/test/access.itest.ts', 'hub/test/projects.itest.ts'],
    },
    { file: 'hub/src/proxy/proxy-access.ts', tests: ['hub/test/access.itest.ts'] },
  ],
};

export const places: readonly Place[] = [
  saga,
  fence,
  placement,
  reconcilers,
  writeAheadLog,
  permissions,
  edge,
];
