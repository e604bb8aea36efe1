import type { ConatPermissions, SubjectRules } from '../auth/identity.js';
import type { ServerUser } from '../auth/users-authenticator.js';
import { named, type SettingValue } from './conf-reader.js';

const everything: ConatPermissions = {
  publish: { allow: ['>'] },
  subscribe: { allow: ['>'] },
  inboxes: 'listed',
};
/** As nats-server, where `allow_responses: true` is meant. */
const responsesDefault = { countMax: 1, ttlMs: 120_000 };

const publishNames = ['publish', 'pub', 'export'];
const subscribeNames = ['subscribe', 'sub', 'import'];

/** What is in `permissions { … }`. */
export function readPermissions(block: SettingValue): ConatPermissions {
  let permissions = everything;
  let asked = false;
  block.each({
    ...named(publishNames, (value) => {
      permissions = { ...permissions, publish: rules(value) };
      asked = true;
    }),
    ...named(subscribeNames, (value) => {
      permissions = { ...permissions, subscribe: rules(value) };
    }),
    ...named(['allow_responses', 'allow_response'], (value) => {
      const responses = readResponses(value);
      if (responses) permissions = { ...permissions, responses };
    }),
  });
  // Who may answer and is told nothing else may only answer.
  if (permissions.responses && !asked) return { ...permissions, publish: { allow: [] } };
  return permissions;
}

function rules(value: SettingValue): SubjectRules {
  if (!value.isMap) return { allow: subjects(value) };
  let allow: readonly string[] | undefined;
  let deny: readonly string[] = [];
  value.each({
    allow: (list) => (allow = subjects(list)),
    deny: (list) => (deny = subjects(list)),
  });
  return { allow: allow ?? ['>'], deny };
}

function subjects(value: SettingValue): string[] {
  const all = value.texts();
  const wrong = all.find((subject) => /\s/.test(subject));
  if (wrong !== undefined) throw value.wrong(`has "${wrong}": queue names are not supported here`);
  return all;
}

function readResponses(value: SettingValue): ConatPermissions['responses'] {
  if (!value.isMap) return value.flag() ? responsesDefault : undefined;
  let responses = responsesDefault;
  value.each({
    max: (count) => (responses = { ...responses, countMax: count.count(1) }),
    ...named(['expires', 'ttl'], (ttl) => (responses = { ...responses, ttlMs: ttl.ms() })),
  });
  return responses;
}

/** The entries of `users: [ … ]`. */
export function readUsers(list: SettingValue): ServerUser[] {
  return list.list().map((entry) => {
    const user: { -readonly [key in keyof ServerUser]: ServerUser[key] } = {};
    entry.each({
      ...named(['user', 'username'], (value) => (user.name = value.text())),
      ...named(['pass', 'password'], (value) => (user.password = password(value))),
      nkey: (value) => (user.nkey = nkey(value)),
      ...named(['permissions', 'permission', 'authorization'], (value) => {
        user.permissions = readPermissions(value);
      }),
    });
    if (user.nkey !== undefined ? user.name !== undefined : user.password === undefined) {
      throw entry.wrong('wants a user and a password, or an nkey');
    }
    if (user.nkey === undefined && user.name === undefined) throw entry.wrong('wants a user');
    return user;
  });
}

export function password(value: SettingValue): string {
  const text = value.text();
  if (/^\$2[abxy]\$/.test(text)) {
    throw value.wrong('is a bcrypt hash, which is not supported here: give an nkey instead');
  }
  return text;
}

function nkey(value: SettingValue): string {
  const text = value.text();
  if (!/^U[A-Z2-7]{55}$/.test(text)) throw value.wrong('must be a public user key (U…)');
  return text;
}

export const unboundedUser = everything;
