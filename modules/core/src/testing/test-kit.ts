interface Matchers<Result> {
  toBe(expected: unknown): Result;
  toBeDefined(): Result;
  toBeUndefined(): Result;
  toBeNull(): Result;
  toBeGreaterThan(expected: number): Result;
  toBeGreaterThanOrEqual(expected: number): Result;
  toBeLessThan(expected: number): Result;
  toBeLessThanOrEqual(expected: number): Result;
  toContain(expected: unknown): Result;
  toContainEqual(expected: unknown): Result;
  toEqual(expected: unknown): Result;
  toHaveLength(expected: number): Result;
  toMatch(expected: string | RegExp): Result;
  toMatchObject(expected: object): Result;
  toThrow(expected?: string | RegExp): Result;
}

interface Expect {
  (value: unknown): Matchers<void> & {
    readonly not: Matchers<void>;
    readonly rejects: Matchers<Promise<void>>;
  };
  objectContaining(expected: object): unknown;
  arrayContaining(expected: unknown[]): unknown;
}

type Hook = (body: () => void | Promise<void>) => void;

/**
 * What conformance suites need of a test framework: jest's and vitest's globals are one. Handed in,
 * so that `./testing` loads without either, also where its memory drivers are all that is wanted.
 */
export interface TestKit {
  readonly describe: (name: string, body: () => void) => void;
  readonly it: (name: string, body: () => void | Promise<void>, timeoutMs?: number) => void;
  readonly expect: Expect;
  readonly beforeAll: Hook;
  readonly afterAll: Hook;
  readonly beforeEach: Hook;
  readonly afterEach: Hook;
}
