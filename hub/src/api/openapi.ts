import {
  AccountView,
  api,
  apiPrefix,
  ApiKeyView,
  AuditView,
  BackupView,
  CollaboratorView,
  HostView,
  idempotencyHeader,
  MoveView,
  OperationView,
  PlacementView,
  Problem,
  ProjectView,
  SessionView,
  Started,
  type Route,
} from '@rookery/api';
import { z } from 'zod';
import { hubVersion } from './health.api.js';

type Json = Record<string, unknown>;

/** Views that the document names once and refers to. */
const named = {
  Account: AccountView,
  ApiKey: ApiKeyView,
  Audit: AuditView,
  Backup: BackupView,
  Collaborator: CollaboratorView,
  Host: HostView,
  Move: MoveView,
  Operation: OperationView,
  Placement: PlacementView,
  Problem,
  Project: ProjectView,
  Session: SessionView,
  Started,
};

/** The OpenAPI 3.1 document of the contract: nothing is described twice. */
export function openApiDocument(serverUrl: string): Json {
  const schemas = new SchemaWriter();
  const paths: Record<string, Json> = {};
  for (const [operationId, route] of Object.entries(api) as [string, Route][]) {
    const path = (paths[apiPrefix + route.path] ??= {});
    path[route.method.toLowerCase()] = operationOf(operationId, route, schemas);
  }
  const license = { name: 'Apache License 2.0', identifier: 'Apache-2.0' };
  return {
    openapi: '3.1.0',
    info: {
      title: 'Rookery',
      version: hubVersion,
      license,
      description: 'Projects, the hosts that they live on, and the work done for them.',
    },
    servers: [{ url: serverUrl }],
    paths,
    components: {
      schemas: schemas.components(),
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer' },
      },
    },
  };
}

function operationOf(operationId: string, route: Route, schemas: SchemaWriter): Json {
  const idempotency = {
    name: idempotencyHeader,
    in: 'header',
    required: false,
    description: 'Repeated with the same key, a request gives the first answer again.',
    schema: { type: 'string', maxLength: 200 },
  };
  const hasBody = route.method !== 'GET' && route.method !== 'DELETE';
  const media = route.kind === 'events' ? 'text/event-stream' : 'application/json';
  return {
    operationId,
    summary: route.summary,
    tags: [route.tag],
    security: route.authenticated ? [{ apiKey: [] }] : [],
    parameters: [
      ...schemas.parameters(route.params, 'path'),
      ...schemas.parameters(route.query, 'query'),
      ...(route.method === 'POST' ? [idempotency] : []),
    ],
    ...(hasBody && {
      requestBody: {
        required: !route.body.safeParse({}).success,
        content: { 'application/json': { schema: schemas.write(route.body, 'input') } },
      },
    }),
    responses: {
      [route.status]: {
        description: route.summary,
        content: { [media]: { schema: schemas.write(route.response, 'output') } },
      },
      '4XX': problem(['The request is refused', ...route.errors].join(' · ')),
      '5XX': problem('The hub or a host cannot answer'),
    },
  };
}

/**
 * Any JSON is written as a schema that refers to itself under a name that zod made up: generators of
 * clients stumble over it, and drop whatever has one inside. The empty schema says the same.
 */
function anyForRecursion(_key: string, value: unknown): unknown {
  const { $ref } = (value ?? {}) as { $ref?: unknown };
  return typeof $ref === 'string' && $ref.includes('/__schema') ? {} : value;
}

const problem = (description: string): Json => ({
  description,
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
});

/** Writes zod schemas as JSON Schema 2020-12, the dialect of OpenAPI 3.1. */
class SchemaWriter {
  private readonly registry = z.registry<{ id: string }>();
  private readonly written: Record<string, unknown> = {};

  constructor() {
    for (const [id, schema] of Object.entries(named)) this.registry.add(schema, { id });
    for (const schema of Object.values(named)) this.write(schema, 'output');
  }

  components(): Json {
    return this.written;
  }

  write(schema: z.ZodType, io: 'input' | 'output'): Json {
    const json = this.convert(schema, io);
    const { $schema: _dialect, $defs, ...own } = json;
    for (const [id, part] of Object.entries(($defs ?? {}) as Record<string, Json>)) {
      if (!id.startsWith('__schema')) this.written[id] ??= part;
    }
    const id = this.registry.get(schema)?.id;
    if (id === undefined) return own;
    const { id: _id, ...body } = own as Json & { id?: string };
    this.written[id] ??= body;
    return { $ref: `#/components/schemas/${id}` };
  }

  parameters(schema: z.ZodType, where: 'path' | 'query'): Json[] {
    const json = this.convert(schema, 'input') as {
      properties?: Record<string, Json>;
      required?: string[];
    };
    return Object.entries(json.properties ?? {}).map(([name, property]) => ({
      name,
      in: where,
      schema: property,
      required: where === 'path' || (json.required ?? []).includes(name),
    }));
  }

  private convert(schema: z.ZodType, io: 'input' | 'output'): Json {
    const json = z.toJSONSchema(schema, {
      target: 'draft-2020-12',
      io,
      metadata: this.registry,
      reused: 'inline',
      unrepresentable: 'any',
    });
    const text = JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/');
    return JSON.parse(text, anyForRecursion) as Json;
  }
}
