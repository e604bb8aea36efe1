import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const saltBytes = 16;
const ivBytes = 12;
const tagBytes = 16;

const keyOf = (secret: string, salt: Buffer): Buffer =>
  Buffer.from(hkdfSync('sha256', secret, salt, 'rookery answer', 32));

/** AES-256-GCM under a key that only who knows `secret` can derive: salt, iv, tag, text. */
export function seal(text: string, secret: string): Buffer {
  const salt = randomBytes(saltBytes);
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv('aes-256-gcm', keyOf(secret, salt), iv);
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([salt, iv, cipher.getAuthTag(), sealed]);
}

/** @throws when the secret is another one, or the bytes were changed. */
export function unseal(bytes: Buffer, secret: string): string {
  const salt = bytes.subarray(0, saltBytes);
  const iv = bytes.subarray(saltBytes, saltBytes + ivBytes);
  const tag = bytes.subarray(saltBytes + ivBytes, saltBytes + ivBytes + tagBytes);
  const decipher = createDecipheriv('aes-256-gcm', keyOf(secret, salt), iv).setAuthTag(tag);
  const sealed = bytes.subarray(saltBytes + ivBytes + tagBytes);
  return Buffer.concat([decipher.update(sealed), decipher.final()]).toString('utf8');
}
