import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { missingFor, runProgram, type Language } from './support/programs.js';
import {
  commonScenarios,
  coreScenarios,
  jetStreamScenarios,
  linesOf,
  natsCoreScenarios,
} from './support/scenarios.js';
import {
  conatRoot,
  conatRooted,
  conatUnrooted,
  natsServer,
  natsServerWithAccounts,
  type InteropServer,
  type StartServer,
} from './support/targets.js';

const languages: readonly Language[] = ['js', 'go', 'python', 'python-core'];
const missingReasons = new Map(
  await Promise.all(
    languages.map(async (language) => [language, await missingFor(language)] as const),
  ),
);

/** A conat in one of its roles, the nats-server that behaves the same, and who can use them. */
interface Role {
  readonly name: string;
  readonly conat: StartServer;
  readonly oracle: StartServer;
  readonly scenarios: Partial<Readonly<Record<Language, readonly string[]>>>;
}

const allScenarios = [...coreScenarios, ...jetStreamScenarios];

/** With a subject space of their own, all clients work as they come. */
const rootScenarios = {
  js: allScenarios,
  go: commonScenarios,
  python: commonScenarios,
  'python-core': natsCoreScenarios,
};

const roles: readonly Role[] = [
  {
    name: 'one root space',
    conat: conatRoot,
    oracle: natsServer,
    scenarios: rootScenarios,
  },
  {
    name: 'a project, rooted',
    conat: conatRooted,
    oracle: natsServer,
    scenarios: rootScenarios,
  },
  {
    name: 'an account, unrooted',
    conat: conatUnrooted,
    oracle: natsServerWithAccounts,
    // Python's cannot: nats-py has no prefix for keys, and its ordered consumers fail on long acks;
    // nats-jetstream has no prefix for the inboxes of its consumers.
    scenarios: { js: allScenarios, go: commonScenarios },
  },
];

describe.each(roles)('programs written for NATS: $name', (role) => {
  for (const language of languages) {
    const scenarios = role.scenarios[language];
    if (scenarios) describeLanguage(role, language, scenarios);
  }
});

function describeLanguage(role: Role, language: Language, scenarios: readonly string[]): void {
  const title = `the ${language} client`;
  const missing = missingReasons.get(language);
  if (missing !== undefined) {
    it.skip(`${title} — ${missing}`, () => undefined);
    return;
  }
  describe(title, () => {
    const servers: InteropServer[] = [];
    let conat: string[];
    let oracle: string[];
    beforeAll(async () => {
      servers.push(await role.conat(), await role.oracle());
      [conat, oracle] = (await Promise.all(
        servers.map((server) => runProgram(language, server, scenarios)),
      )) as [string[], string[]];
    });
    afterAll(async () => {
      await Promise.all(servers.map((server) => server.close()));
    });

    it.each(scenarios)('%s', (scenario) => {
      const expected = linesOf(scenario, oracle);
      expect(expected.at(-1)).toBe(`${scenario}: end`);
      expect(linesOf(scenario, conat)).toEqual(expected);
    });

    it('ends well', () => {
      expect(oracle.at(-1)).toBe(`${scenarios.at(-1)}: end`);
      expect(conat.at(-1)).toBe(oracle.at(-1));
    });
  });
}
