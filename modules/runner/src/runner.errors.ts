import { catalogue } from '@rookery/core';

export const RunnerErrors = catalogue('runner', {
  IMAGE_INVALID: {
    status: 400,
    message: 'The image {image} cannot be used: {reason}',
  },
  IMAGE_UNKNOWN: {
    status: 404,
    message: 'There is no image {image}. Check its name and tag.',
  },
  IMAGE_DENIED: {
    status: 403,
    message: 'The registry refuses to hand out {image}. Check that it is public or sign in to it.',
  },
  IMAGE_NOT_ALLOWED: {
    status: 403,
    message: 'The image {image} is not allowed here. Choose one of: {allowed}',
  },
  IMAGE_TOO_LARGE: {
    status: 413,
    message: 'The image {image} has {bytes} bytes; at most {bytesMax} are allowed.',
  },
  IMAGE_PULL_FAILED: {
    status: 502,
    message: 'The image {image} could not be fetched: {reason}',
    retryable: true,
  },
  REGISTRY_UNREACHABLE: {
    status: 503,
    message: 'The registry {registry} does not answer: {reason}',
    retryable: true,
  },
  PROJECT_NOT_HERE: {
    status: 404,
    message: 'The project {projectId} is not on this host.',
  },
  VOLUME_MISSING: {
    status: 409,
    message:
      'The files of project {projectId} are not on its host ({missing}). It is not started on nothing: bring the disk back, or look for a backup (rookery backup list {projectId}) and restore it (rookery backup restore {projectId} BACKUP --replace).',
  },
  NOTHING_TO_ADOPT: {
    status: 404,
    message:
      'No files of project {projectId} are on this host. Look for a backup (rookery backup list {projectId}) and restore it (rookery backup restore {projectId} BACKUP --replace).',
  },
  PROJECT_NOT_RUNNING: {
    status: 409,
    message: 'The project {projectId} is {state}. Start it and try again.',
  },
  PROJECT_BUSY_MOVING: {
    status: 409,
    message: 'The project {projectId} is being moved. Try again in a moment.',
    retryable: true,
  },
  PROJECT_BUSY_RESTORING: {
    status: 409,
    message: 'The project {projectId} is being restored. Try again when that has ended.',
    retryable: true,
  },
  PROJECT_BUSY_ARCHIVING: {
    status: 409,
    message:
      'The project {projectId} is being archived. Rehydrate it when that has ended, or try again if it comes to nothing.',
    retryable: true,
  },
  PROJECT_NOT_STOPPED: {
    status: 409,
    message: 'The project {projectId} is {state}. Stop it first.',
  },
  PROJECT_IS_ARCHIVED: {
    status: 409,
    message: 'The project {projectId} is archived. Rehydrate it first.',
  },
  PROJECT_STATE_CONFLICT: {
    status: 500,
    message: 'The project {projectId} cannot go from {from} to {to}.',
  },
  ROOTFS_UNUSABLE: {
    status: 409,
    message:
      'The project {projectId} cannot start: {path} in its root filesystem is {reason}, not a file. Start it with a clean one and repair it (rookery project start {projectId} --rescue), begin it anew (rookery project reset-rootfs {projectId}), or restore a snapshot or a backup.',
  },
  CONTAINER_START_FAILED: {
    status: 500,
    message: 'The container of {projectId} did not start: {reason}',
    retryable: true,
  },
  OUTPUT_CUT: {
    status: 502,
    message:
      'The output was cut off at the host: what arrived is not all of it. Look whether the command has done its work before you run it again.',
  },
  PROGRAM_OUT_OF_MEMORY: {
    status: 507,
    message:
      'The kernel has killed {kills} programs of the project: together they wanted more than its {memoryBytes} bytes of memory, or all projects of its host more than the host gives them. Give it more, move it, or let it do less at once.',
  },
  CONTAINER_ENDED: {
    status: 500,
    message:
      'The container ended by itself with status {exit} ({reason}) and was started again; {restarts} times since somebody last started it.',
  },
  ID_RANGES_FULL: {
    status: 507,
    message:
      'All {count} ranges of user ids of this host are taken. Raise ROOKERY_UID_RANGES or delete projects.',
  },
  CONTAINER_RUNTIME_UNUSABLE: {
    status: 500,
    message: 'No container runtime works on this machine: {reason}. Install podman and runc.',
  },
  CGROUPS_MISSING: {
    status: 500,
    message:
      'No cgroup hierarchy is mounted beneath {root}, and containers need one. Mount it (`mount -t cgroup2 none {root}`), or boot with systemd.',
  },
  NETWORK_UNUSABLE: {
    status: 500,
    message: 'The projects’ network cannot be set up: {reason}',
  },
  NETWORK_FULL: {
    status: 503,
    message: 'All addresses of {cidr} are in use. Stop a project or give the host a larger range.',
    retryable: true,
  },
});
