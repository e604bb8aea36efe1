import { catalogue } from '@rookery/core';

export const MoveErrors = catalogue('move', {
  MOVE_SAME_HOST: {
    status: 400,
    message: 'The project is on that host already. Choose another one.',
  },
  PROJECT_MOVING: {
    status: 409,
    message: 'The project is being moved right now. Try again in a moment.',
    retryable: true,
  },
  DESTINATION_FULL: {
    status: 507,
    message:
      'The destination has {freeBytes} bytes free, the project needs {needBytes}. Choose another host.',
  },
  DESTINATION_OFFLINE: {
    status: 503,
    message: 'Host {hostId} does not answer. Choose another one, or try again when it is back.',
    retryable: true,
  },
  MOVE_STALE_COPY: {
    status: 409,
    message:
      'The host {host} still holds a copy of project {projectId} from an earlier stay. See it with rookery host copies {host}, remove it with rookery host copies delete {host} {projectId}, and move the project again; or choose another host.',
    retryable: true,
  },
  MOVE_NOT_AUTHORIZED: {
    status: 403,
    message: 'The host expects no such stream from this sender.',
  },
  MOVE_VERIFY_FAILED: {
    status: 500,
    message: 'What arrived is not what was sent: {reason}. The project stays where it is.',
  },
  MOVE_IMAGE_UNKNOWN: {
    status: 409,
    message:
      'The hub has not said what image {digest} holds, so the host takes it from no other host. Update the hub, or start a project with that image here first.',
  },
  MOVE_IMAGE_NOT_FETCHED: {
    status: 502,
    message: 'The host cannot fetch image {image} itself: {reason}',
  },
  MOVE_IMAGE_REFUSED: {
    status: 502,
    message:
      'The host {host} does not take image {image} from the project’s host: {reason} It cannot fetch the image itself either: {fetching} The project stays where it is. Choose a host that has the image, or make it one that {host} can fetch.',
  },
  MOVE_NOT_OWNER: {
    status: 409,
    message: 'The host does not hold project {projectId}, or holds it at another generation.',
  },
  MOVE_UNDONE: {
    status: 409,
    message: 'The move was undone; start a new one.',
  },
  MOVE_COMMITTED: {
    status: 409,
    message: 'The move has changed the owner already; it can only go forward.',
  },
});
