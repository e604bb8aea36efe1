import { DisplayName } from '@rookery/core/contract';
import { z } from 'zod';
import { route } from './route.js';
import { AccountName, AccountView, ApiKeyView, pageOf, PageQuery, SessionView } from './views.js';

const none = z.object({});
const base = { params: none, query: none, body: none } as const;
const ofAccount = {
  accountId: AccountName.optional().describe('another’s (administrators); absent: the caller’s'),
};

/** Accounts, their API keys, and where they are signed in. */
export const accounts = {
  getAccount: route('GET', '/account', {
    ...base,
    summary: 'The caller’s account',
    tag: 'accounts',
    response: AccountView,
  }),
  listAccounts: route('GET', '/accounts', {
    ...base,
    summary: 'All accounts, oldest first (administrators)',
    tag: 'accounts',
    query: PageQuery,
    response: pageOf(AccountView),
    errors: ['FORBIDDEN'],
  }),
  createAccount: route('POST', '/accounts', {
    ...base,
    summary: 'Make an account with a first API key (administrators)',
    tag: 'accounts',
    body: z.object({
      email: z.email().max(200),
      name: DisplayName,
      admin: z.boolean().default(false),
    }),
    response: z.object({ account: AccountView, token: z.string() }),
    status: 201,
    errors: ['ACCOUNT_EXISTS', 'FORBIDDEN'],
  }),
  updateAccount: route('PATCH', '/accounts/{accountId}', {
    ...base,
    summary: 'Block an account, or let it in again (administrators)',
    tag: 'accounts',
    params: z.object({ accountId: AccountName }),
    body: z.object({ blocked: z.boolean() }),
    response: AccountView,
    errors: ['ACCOUNT_UNKNOWN', 'ACCOUNT_OWN', 'FORBIDDEN'],
  }),
  listApiKeys: route('GET', '/api-keys', {
    ...base,
    summary: 'The caller’s API keys',
    tag: 'accounts',
    query: PageQuery,
    response: pageOf(ApiKeyView),
  }),
  createApiKey: route('POST', '/api-keys', {
    ...base,
    summary: 'Make an API key; its token is shown once',
    tag: 'accounts',
    body: z.object({ name: DisplayName, expiresInDays: z.int().min(1).max(3650).optional() }),
    response: z.object({ key: ApiKeyView, token: z.string() }),
    status: 201,
  }),
  deleteApiKey: route('DELETE', '/api-keys/{keyId}', {
    ...base,
    summary: 'Revoke an API key; the sessions and connections that it opened end',
    tag: 'accounts',
    params: z.object({ keyId: z.uuid() }),
    response: none,
  }),
  listSessions: route('GET', '/sessions', {
    ...base,
    summary: 'Where the caller’s browsers are signed in, newest first',
    tag: 'accounts',
    query: PageQuery.extend(ofAccount),
    response: pageOf(SessionView),
    errors: ['FORBIDDEN'],
  }),
  endSession: route('DELETE', '/sessions/{sessionId}', {
    ...base,
    summary: 'Sign one browser out; what it has open ends',
    tag: 'accounts',
    params: z.object({ sessionId: z.uuid() }),
    query: z.object(ofAccount),
    response: none,
    errors: ['NOT_FOUND', 'FORBIDDEN'],
  }),
  endSessions: route('DELETE', '/sessions', {
    ...base,
    summary: 'Sign out everywhere: ends all sessions and unused sign-in links; API keys stay',
    tag: 'accounts',
    query: z.object(ofAccount),
    response: z.object({ ended: z.int().min(0) }),
    errors: ['FORBIDDEN'],
  }),
  createLoginTicket: route('POST', '/login-tickets', {
    ...base,
    summary: 'A one-time link that signs a browser in',
    tag: 'accounts',
    body: z.object({
      next: z
        .string()
        .max(2000)
        .regex(/^\/(?!\/)/)
        .default('/'),
    }),
    response: z.object({ url: z.url(), expiresAt: z.iso.datetime() }),
    status: 201,
  }),
  createConatToken: route('POST', '/conat-tokens', {
    ...base,
    summary: 'A short-lived token for messaging at /conat',
    tag: 'accounts',
    response: z.object({
      url: z.string(),
      token: z.string(),
      inboxPrefix: z.string(),
      expiresAt: z.iso.datetime(),
    }),
    status: 201,
  }),
};
