import { catalogue } from '@rookery/core';

export const ClusterErrors = catalogue('cluster', {
  CLUSTER_UNKNOWN: {
    status: 404,
    message: 'There is no cluster in {dataDir}. `rookery up --data {dataDir}` makes one.',
  },
  CLUSTER_RUNNING: {
    status: 409,
    message: 'The cluster in {dataDir} already runs (process {pid}). Look with `rookery status`.',
  },
  CLUSTER_FILE_INVALID: {
    status: 500,
    message: 'The file {path} cannot be read ({reason}).',
  },
  CLUSTER_FIXED: {
    status: 409,
    message:
      'The cluster in {dataDir} was made with {what} {present}, which cannot become {wanted}. Leave the option away, or use another --data.',
  },
  DATA_DIR_NOT_EMPTY: {
    status: 409,
    message: '{dataDir} holds other files and no cluster. Choose an empty folder with --data.',
  },
  DATA_DIR_UNUSABLE: { status: 500, message: 'The folder {dataDir} cannot be used: {reason}.' },
  DATA_DIR_CLOSED: {
    status: 500,
    message:
      'Other users cannot enter {folder}, and those that run Postgres and the projects must. Run `chmod o+x {folder}`, or use another --data.',
  },
  DISK_TOO_FULL: {
    status: 507,
    message:
      'Only {free} are free in {dataDir}; {needed} are needed. Free space or use another --data.',
  },
  PORT_IN_USE: {
    status: 409,
    message: 'Port {port} (for {use}) is in use by another program. Choose others with --port.',
  },
  NETWORK_EXHAUSTED: {
    status: 500,
    message: 'No free private network was found for the projects of {host}.',
  },
  PART_MISSING: {
    status: 500,
    message: '{path} is missing. Start with the ./rookery script, which builds what is needed.',
  },
  PART_FAILED: { status: 500, message: '{name} does not start: {reason} (all of it: {log})' },
  LISTEN_ADDRESS_NEEDED: {
    status: 400,
    message:
      'The hub {hubUrl} is on another machine: say at which address it and the other hosts reach this one, as --listen {hint}.',
  },
  STILL_MOUNTED: {
    status: 500,
    message: '{path} is still mounted, so nothing was deleted. Unmount it and try again.',
  },
  START_ABANDONED: { status: 500, message: 'The cluster ended while it was starting; see {log}.' },
});
