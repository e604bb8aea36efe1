import type { Algorithms } from 'ssh2';

/**
 * What both ends of a transfer speak: Curve25519, Ed25519 and authenticated ciphers alone (no NIST
 * curves, no CBC, no SHA-1). Fastest first; compression is off, as the streams are compressed.
 */
export const sshAlgorithms: Algorithms = {
  kex: ['curve25519-sha256', 'curve25519-sha256@libssh.org'],
  serverHostKey: ['ssh-ed25519'],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com'],
  // Unused beside authenticated ciphers, but both sides must name one in common.
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com'],
  compress: ['none'],
};
