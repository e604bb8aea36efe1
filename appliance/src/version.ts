/** What this host says of itself to the hub. */
export const version = '0.1.0';
