import { catalogue } from '@rookery/core';

/** What the ways in (HTTP, WebSocket, SSH) answer with. */
export const ProxyErrors = catalogue('proxy', {
  PROXY_PATH_INVALID: {
    status: 400,
    message:
      'The address is not valid: {reason}. Use /<project id>/port/<port>/… or /<project id>/server/<port>/….',
  },
  PROXY_PORT_INVALID: {
    status: 400,
    message: 'The port {port} is not valid; use a number from 1 to 65535.',
  },
  PROXY_REQUEST_AMBIGUOUS: {
    status: 400,
    message: 'The request can be read in two ways: {reason}.',
  },
  PROXY_UPGRADE_INVALID: {
    status: 400,
    message: 'Only WebSocket upgrades without a body are carried: {reason}.',
  },
  PROXY_ORIGIN_REFUSED: {
    status: 403,
    message: 'A page of {origin} may not open WebSockets here with your session.',
  },
  PROXY_ORIGIN_REQUIRED: {
    status: 403,
    message:
      'Browsers see projects at addresses of their own, not on the hub’s. {advice} Programs send a token.',
  },
  PROXY_ADDRESS_UNKNOWN: {
    status: 404,
    message: 'Nothing is at this address. A project’s service is at <port>--<project id>.',
  },
  PROXY_SIGN_IN_FAILED: {
    status: 401,
    message:
      'The sign-in was not finished in this browser in time. Allow cookies, then open the project again.',
  },
  PROXY_SIGN_IN_REQUIRED: {
    status: 401,
    message: 'This port is private. Sign in to an account that may see the project.',
  },
  PROXY_PROJECT_FORBIDDEN: {
    status: 403,
    message: 'Your account may not see this project. Ask its owner to add you.',
  },
  PROXY_PROJECT_UNKNOWN: {
    status: 404,
    message: 'There is no project {projectId}. Check the address.',
  },
  PROXY_PROJECT_NOT_PLACED: {
    status: 503,
    message: 'The project {projectId} is {state} and on no host. Start it first.',
  },
  PROXY_PROJECT_NOT_RUNNING: {
    status: 503,
    message: 'The project {projectId} is not running. Start it, then load this page again.',
  },
  PROXY_PORT_REFUSED: {
    status: 502,
    message:
      'Nothing listens on port {port} of the project. Start the service, then load this page again.',
    retryable: true,
  },
  PROXY_PROJECT_HELD: {
    status: 503,
    message: 'The project is being moved or started again. Try again in a few seconds.',
    retryable: true,
  },
  PROXY_PROJECT_MOVED: {
    status: 421,
    message: 'The project {projectId} has moved{to}. Use its new address.',
    retryable: true,
  },
  PROXY_NOT_HERE: {
    status: 421,
    message: 'The project {projectId} is not on this host.',
    retryable: true,
  },
  PROXY_TOKEN_REQUIRED: {
    status: 401,
    message: 'This host answers only requests with a token. Open the project through the hub.',
  },
  PROXY_TOKEN_REFUSED: {
    status: 401,
    message: 'The token does not open this: {reason}. Open the project through the hub again.',
  },
  PROXY_HOST_UNREACHABLE: {
    status: 502,
    message: 'The host of this project does not answer. Try again in a minute.',
    retryable: true,
  },
  PROXY_HOST_REFUSED: {
    status: 502,
    message: 'The host of this project refused the hub: {reason}. Tell the operator.',
  },
  PROXY_UPSTREAM_FAILED: {
    status: 502,
    message: 'The service on port {port} broke off the connection: {reason}.',
    retryable: true,
  },
  PROXY_UPSTREAM_TIMEOUT: {
    status: 504,
    message: 'The service on port {port} did not answer within {timeoutMs} ms.',
    retryable: true,
  },
  PROXY_BODY_TIMEOUT: {
    status: 408,
    message: 'The request body stopped coming for {timeoutMs} ms.',
    retryable: true,
  },
  PROXY_BUSY: {
    status: 429,
    message: 'There are more than {limit} {what} at once. Try again in a moment.',
    retryable: true,
  },
  PROXY_DRAINING: {
    status: 503,
    message: 'This server is shutting down. Try again.',
    retryable: true,
  },
  SSH_COMMAND_REFUSED: {
    status: 403,
    message: 'This login may run nothing but the receiving end of its authorized move: {reason}.',
  },
  TRANSFER_REFUSED: {
    status: 403,
    message: 'The destination refused the transfer: {reason}.',
  },
  TRANSFER_FAILED: {
    status: 502,
    message: 'The transfer broke off: {reason}. It can be tried again.',
    retryable: true,
  },
  TRANSFER_STALLED: {
    status: 504,
    message: 'The transfer made no progress for {timeoutMs} ms.',
    retryable: true,
  },
  HOST_KEY_MISMATCH: {
    status: 502,
    message:
      'The SSH server at {address} shows another host key than the pinned one. Nothing was sent.',
  },
});
