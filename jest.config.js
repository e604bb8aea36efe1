/** One jest for all packages: sources are run as they are, so a test never meets a stale build. */
const swc = [
  '@swc/jest',
  {
    jsc: {
      target: 'es2024',
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true },
      keepClassNames: true,
    },
    module: { type: 'es6' },
    sourceMaps: 'inline',
  },
];

const common = {
  rootDir: import.meta.dirname,
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '^.+\\.ts$': swc },
  moduleNameMapper: {
    '^@rookery/([a-z]+)/testing$': '<rootDir>/modules/$1/src/testing/index.ts',
    '^@rookery/([a-z]+)/contract$': '<rootDir>/modules/$1/src/contract.ts',
    '^@rookery/(harness)$': '<rootDir>/harness/src/index.ts',
    '^@rookery/([a-z]+)$': '<rootDir>/modules/$1/src/index.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  modulePathIgnorePatterns: ['/dist/'],
};

/** A file says its level in its name: `x.test.ts` unit, `x.itest.ts` real parts, `x.e2e.ts` whole system. */
export default {
  projects: [
    {
      ...common,
      displayName: 'unit',
      testMatch: ['<rootDir>/{modules/*,hub,appliance,cluster,harness}/test/**/*.test.ts'],
    },
    {
      ...common,
      displayName: 'integration',
      testMatch: ['<rootDir>/{modules/*,hub,appliance,cluster,harness}/test/**/*.itest.ts'],
    },
    { ...common, displayName: 'e2e', testMatch: ['<rootDir>/e2e/**/*.e2e.ts'] },
  ],
  testTimeout: 120_000,
};
