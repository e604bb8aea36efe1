// prepare.mjs DOCUMENT FOLDER: validates an OpenAPI document and writes a TypeScript client of it.
import SwaggerParser from '@apidevtools/swagger-parser';
import { createClient } from '@hey-api/openapi-ts';

const [document, folder] = process.argv.slice(2);
await SwaggerParser.validate(document);
await createClient({
  input: document,
  output: { path: folder, module: { extension: '.js' } },
  plugins: ['@hey-api/client-fetch', '@hey-api/typescript', '@hey-api/sdk'],
  logs: { level: 'silent' },
});
