import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { missingFor, runProgram, type Language } from './support/programs.js';
import { conatRoot, natsServer, type InteropServer, type StartServer } from './support/targets.js';

const languages: readonly Language[] = ['js', 'go', 'python'];
const missingReasons = new Map(
  await Promise.all(
    languages.map(async (language) => [language, await missingFor(language)] as const),
  ),
);

const coreScenarios = [
  'pubsub',
  'wildcard',
  'queue',
  'request',
  'headers',
  'drain',
  'unsub-max',
  'reconnect',
];

/** A conat in one of its roles, the nats-server that behaves the same, and who can use them. */
interface Role {
  readonly name: string;
  readonly conat: StartServer;
  readonly oracle: StartServer;
  readonly languages: readonly Language[];
  readonly scenarios: readonly string[];
}

const roles: readonly Role[] = [
  {
    name: 'one root space',
    conat: conatRoot,
    oracle: natsServer,
    languages,
    scenarios: coreScenarios,
  },
];

describe.each(roles)('programs written for NATS: $name', (role) => {
  for (const language of role.languages) describeLanguage(role, language);
});

function describeLanguage(role: Role, language: Language): void {
  const title = `the ${language} client`;
  const missing = missingReasons.get(language);
  if (missing !== undefined) {
    it.skip(`${title} — ${missing}`, () => undefined);
    return;
  }
  describe(title, () => {
    const servers: InteropServer[] = [];
    beforeAll(async () => {
      servers.push(await role.conat(), await role.oracle());
    });
    afterAll(async () => {
      await Promise.all(servers.map((server) => server.close()));
    });

    it.each(role.scenarios)('%s', async (scenario) => {
      const [conat, oracle] = await Promise.all(
        servers.map((server) => runProgram(language, server, [scenario])),
      );
      expect(oracle!.at(-1)).toBe(`${scenario}: end`);
      expect(conat).toEqual(oracle);
    });
  });
}
