import type { ApiInput } from './engine-io.js';
import { jsErrors } from './js-errors.js';
import { checkLevel, type StreamApi } from './streams/stream-api.js';
import type { MessageApi } from './streams/message-api.js';
import type { SnapshotApi } from './streams/snapshot-api.js';

export interface ApiDependencies {
  readonly streams: StreamApi;
  readonly messages: MessageApi;
  readonly snapshots: SnapshotApi;
  readonly info: (request: ApiInput) => void;
}

interface Route {
  /** Of the answer, without its prefix. */
  readonly type: string;
  readonly run: (parts: ApiDependencies, request: ApiInput, name: string) => void;
}

const needsCluster: Route['run'] = () => {
  throw jsErrors.clusterRequired();
};

/** Behind the API's prefix; `*` is the stream's name. */
const routes: Readonly<Record<string, Route>> = {
  INFO: { type: 'account_info_response', run: (api, request) => api.info(request) },
  'STREAM.NAMES': {
    type: 'stream_names_response',
    run: (api, request) => api.streams.names(request),
  },
  'STREAM.LIST': { type: 'stream_list_response', run: (api, request) => api.streams.list(request) },
  'STREAM.CREATE.*': {
    type: 'stream_create_response',
    run: (api, request, name) => api.streams.create(request, name),
  },
  'STREAM.UPDATE.*': {
    type: 'stream_update_response',
    run: (api, request, name) => api.streams.update(request, name),
  },
  'STREAM.INFO.*': {
    type: 'stream_info_response',
    run: (api, request, name) => api.streams.info(request, name),
  },
  'STREAM.DELETE.*': {
    type: 'stream_delete_response',
    run: (api, request, name) => api.streams.delete(request, name),
  },
  'STREAM.PURGE.*': {
    type: 'stream_purge_response',
    run: (api, request, name) => api.streams.purge(request, name),
  },
  'STREAM.MSG.GET.*': {
    type: 'stream_msg_get_response',
    run: (api, request, name) => api.messages.get(request, name),
  },
  'STREAM.MSG.DELETE.*': {
    type: 'stream_msg_delete_response',
    run: (api, request, name) => api.messages.delete(request, name),
  },
  'STREAM.SNAPSHOT.*': {
    type: 'stream_snapshot_response',
    run: (api, request, name) => api.snapshots.snapshot(request, name),
  },
  'STREAM.RESTORE.*': {
    type: 'stream_restore_response',
    run: (api, request, name) => api.snapshots.restore(request, name),
  },
  'STREAM.PEER.REMOVE.*': { type: 'stream_remove_peer_response', run: needsCluster },
  'STREAM.PEER.EVACUATE.*': { type: 'stream_evacuate_peer_response', run: needsCluster },
  'STREAM.LEADER.STEPDOWN.*': { type: 'stream_leader_stepdown_response', run: needsCluster },
  'STREAM.CANCEL_MOVE.*': { type: 'stream_cancel_move_response', run: needsCluster },
};

/** A server says nothing at all to some of these; an answer is better than to wait in vain. */
const unknownRoute: Route = {
  type: 'system_response',
  run: (_api, request) => {
    checkLevel(request);
    throw jsErrors.badRequest();
  },
};

/** What a request asks for and of which stream; an error for what nobody knows. */
export function routeOf(subject: string): { route: Route; name: string } {
  const exact = routes[subject];
  if (exact) return { route: exact, name: '' };
  const at = subject.lastIndexOf('.');
  const route = at < 0 ? undefined : routes[`${subject.slice(0, at)}.*`];
  return { route: route ?? unknownRoute, name: subject.slice(at + 1) };
}
