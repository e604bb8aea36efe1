import { catalogue } from '@rookery/core';

export const StorageErrors = catalogue('storage', {
  VOLUME_NOT_FOUND: { status: 404, message: 'This host holds no files of project {projectId}.' },
  SIDECAR_DAMAGED: {
    status: 500,
    message:
      'What the host noted about the snapshots of project {projectId} cannot be read ({path}). Its files are untouched. Remove that file: snapshots are then unlocked, and as old as their subvolumes.',
  },
  VOLUME_ABSENT: {
    status: 503,
    message:
      'This host’s volume is not there: {reason}. Nothing is served and nothing made anew; bring its disk or file back, and the host goes on by itself.',
    retryable: true,
  },
  VOLUME_FOREIGN: {
    status: 503,
    message:
      'What lies at {volume} is another volume ({found}) than this host’s own ({expected}). Nothing is served; bring its own back, and the host goes on by itself.',
    retryable: true,
  },
  VOLUME_EXISTS: {
    status: 409,
    message: 'This host already holds files of project {projectId}. Delete them or choose another.',
  },
  VOLUME_BUSY: {
    status: 409,
    message: 'Project {projectId} is being {what}. Try again when that has ended.',
    retryable: true,
  },
  SNAPSHOT_NOT_FOUND: { status: 404, message: 'The project has no snapshot {name}.' },
  SNAPSHOT_EXISTS: {
    status: 409,
    message: 'The project already has a snapshot {name}. Choose another name.',
  },
  SNAPSHOT_LOCKED: {
    status: 409,
    message: 'Snapshot {name} is locked. Unlock it before deleting it.',
  },
  SNAPSHOT_LIMIT: {
    status: 409,
    message: 'The project has {count} snapshots, the most that it may keep. Delete some first.',
  },
  SNAPSHOT_PATH_NOT_FOUND: { status: 404, message: 'Snapshot {name} holds no {path}.' },
  SNAPSHOTS_UNSUPPORTED: {
    status: 501,
    message: 'This host keeps projects in plain folders, which have no snapshots. Use btrfs.',
  },
  RESET_NEEDS_DISCARD: {
    status: 409,
    message:
      'This host keeps no snapshots, so what project {projectId} has changed in its root filesystem cannot be kept. Copy out what is needed (rookery project start {projectId} --rescue), then reset it with --discard.',
  },
  QUOTA_UNSUPPORTED: {
    status: 501,
    message: 'This host keeps projects in plain folders, which have no quota. Use btrfs.',
  },
  MOVE_UNSUPPORTED: {
    status: 501,
    message: 'This host keeps projects in plain folders, which cannot be moved. Use btrfs.',
  },
  QUOTA_BELOW_USE: {
    status: 409,
    message:
      'The project uses {used}; its quota cannot be set to {wanted}. Free space or choose more.',
  },
  QUOTA_EXCEEDED: {
    status: 507,
    message: 'The project has reached its disk quota. Free space or raise the quota.',
  },
  DISK_FULL: {
    status: 507,
    message: 'The host has no room left on {volume}. Free space or grow the volume.',
  },
  STREAM_INVALID: {
    status: 400,
    message: 'The stream of {item} is not a whole, valid send stream: {reason}',
  },
  STREAM_BROKEN: {
    status: 503,
    message: 'The stream of {item} broke off: {reason}. It can be sent again.',
    retryable: true,
  },
  LANDING_NOT_FOUND: { status: 404, message: 'There is no landing area of move {moveId}.' },
  LANDING_INCOMPLETE: {
    status: 409,
    message: 'The landing area of move {moveId} does not hold {item}.',
  },
  IMAGE_NOT_FOUND: { status: 404, message: 'The host does not hold image {digest}.' },
  IMAGE_DIFFERS: {
    status: 502,
    message:
      'What arrived as image {digest} is not that image: its content is {found}, and should be {expected}. It was thrown away.',
  },
  IMAGE_UNREADABLE: {
    status: 500,
    message: 'The content of image {digest} cannot be compared with that of other hosts: {reason}',
  },
  VOLUME_NO_ROOM: {
    status: 507,
    message:
      'A volume of {wanted} does not fit in {folder}, which has {free} left. Free space or choose a smaller volume.',
  },
  VOLUME_UNUSABLE: { status: 500, message: 'The volume {volume} cannot be used: {reason}' },
});
