import { join } from 'node:path';
import { SystemExec } from '../exec.js';

/**
 * Makes a self-signed TLS certificate that is good for two days, `key.pem` and `cert.pem`.
 * @param names the common name, and what else OpenSSL shall add (`subjectAltName=IP:127.0.0.1`)
 * @returns the paths of both files
 */
export async function selfSignedCertificate(
  folder: string,
  names: { readonly commonName?: string; readonly extension?: string } = {},
): Promise<{ key: string; cert: string }> {
  const { commonName = 'localhost', extension } = names;
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  await new SystemExec().run([
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    key,
    '-out',
    cert,
    '-days',
    '2',
    '-subj',
    `/CN=${commonName}`,
    ...(extension === undefined ? [] : ['-addext', extension]),
  ]);
  return { key, cert };
}
