import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  KeyObject,
  randomBytes,
} from 'node:crypto';
import { CoreErrors } from '@rookery/core';

export interface SshKeyPair {
  /** `ssh-ed25519 AAAA…` */
  readonly publicKey: string;
  /** OpenSSH private key file, without a passphrase. */
  readonly privateKey: string;
}

const algorithm = 'ssh-ed25519';

/** Makes an Ed25519 key: a host's ingress (host) key or transfer (client) key. */
export function generateSshKeyPair(comment = 'rookery'): SshKeyPair {
  const { privateKey } = generateKeyPairSync('ed25519');
  return {
    publicKey: sshPublicKeyOf(privateKey),
    privateKey: opensshPrivateKey(privateKey, comment),
  };
}

/** The one-line public form of an Ed25519 key. @throws INVALID_INPUT for other kinds */
export function sshPublicKeyOf(key: string | KeyObject): string {
  return `${algorithm} ${publicBlob(publicBytes(asPrivateKey(key))).toString('base64')}`;
}

/**
 * The OpenSSH file form (PROTOCOL.key, no passphrase) of an Ed25519 key in PKCS#8 PEM, which is what
 * ssh2 reads. A key in OpenSSH form comes back as it is.
 */
export function opensshPrivateKey(key: string | KeyObject, comment = 'rookery'): string {
  if (typeof key === 'string' && key.includes('BEGIN OPENSSH PRIVATE KEY')) return key;
  const privateKey = asPrivateKey(key);
  const { d = '' } = privateKey.export({ format: 'jwk' });
  const seed = Buffer.from(d, 'base64url');
  const point = publicBytes(privateKey);
  const check = randomBytes(4);
  const fields = Buffer.concat([
    check,
    check,
    sshString(algorithm),
    sshString(point),
    sshString(Buffer.concat([seed, point])),
    sshString(comment),
  ]);
  const padding = Buffer.from(
    Array.from({ length: (8 - (fields.length % 8)) % 8 }, (_, i) => i + 1),
  );
  const file = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    sshString('none'),
    sshString('none'),
    sshString(''),
    uint32(1),
    sshString(publicBlob(point)),
    sshString(Buffer.concat([fields, padding])),
  ]);
  const lines = file.toString('base64').match(/.{1,70}/g) ?? [];
  const label = 'OPENSSH PRIVATE KEY';
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

function asPrivateKey(key: string | KeyObject): KeyObject {
  let parsed: KeyObject;
  try {
    parsed = key instanceof KeyObject ? key : createPrivateKey(key);
  } catch (error) {
    throw CoreErrors.INVALID_INPUT({ reason: 'the SSH key cannot be read' }, { cause: error });
  }
  if (parsed.asymmetricKeyType !== 'ed25519') {
    throw CoreErrors.INVALID_INPUT({ reason: 'SSH keys must be Ed25519' });
  }
  return parsed;
}

function publicBytes(privateKey: KeyObject): Buffer {
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  return Buffer.from(x, 'base64url');
}

const publicBlob = (point: Buffer): Buffer =>
  Buffer.concat([sshString(algorithm), sshString(point)]);

function sshString(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
