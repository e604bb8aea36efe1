import { wsconnect } from '@nats-io/nats-core';
import { Kvm } from '@nats-io/kv';

const byId = (id) => document.getElementById(id);
let nats;
/** Name of a bucket → the bucket; each is watched once. */
const buckets = new Map();

/** A form that does something, and says what went wrong. */
function onSubmit(id, act) {
  byId(id).addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await act(Object.fromEntries(new FormData(event.target)));
    } catch (error) {
      state(error.message, true);
    }
  });
}

function state(text, bad = false) {
  byId('state').textContent = text;
  byId('state').className = bad ? 'bad' : '';
}

const say = (id, line) => {
  byId(id).textContent += `${line}\n`;
};

onSubmit('connect', async ({ server, token, inbox }) => {
  await nats?.close();
  nats = await wsconnect({
    servers: server,
    ...(token && { token }),
    // A program of a project or of a broker of its own needs none; an account has its own.
    ...(inbox && { inboxPrefix: inbox }),
  });
  for (const button of document.querySelectorAll('button')) button.disabled = false;
  const rtt = await nats.rtt();
  state(`connected to ${nats.info.server_name} (${nats.info.version}), ${rtt} ms`);
  void follow(nats);
});

async function follow(connection) {
  for await (const { type } of connection.status()) {
    if (type === 'disconnect') state('the connection is lost; trying again', true);
    if (type === 'reconnect') state('connected again');
  }
}

onSubmit('subscribe', async ({ subject }) => {
  nats.subscribe(subject, {
    callback: (error, message) =>
      say('heard', error ? error.message : `${message.subject}: ${message.string()}`),
  });
  await nats.flush();
  say('heard', `listening to ${subject}`);
});

onSubmit('publish', async ({ subject, payload }) => {
  nats.publish(subject, payload);
  await nats.flush();
});

onSubmit('request', async ({ subject, payload }) => {
  const answer = await nats.request(subject, payload, { timeout: 5_000 });
  say('answer', answer.string());
});

onSubmit('put', async ({ bucket: name, key, value }) => {
  if (!buckets.has(name)) {
    const bucket = await new Kvm(nats).create(name);
    buckets.set(name, bucket);
    void watch(bucket);
  }
  await buckets.get(name).put(key, value);
});

/** The table shows what the bucket holds, whoever changes it. */
async function watch(bucket) {
  for await (const entry of await bucket.watch()) {
    const id = `key-${entry.bucket}-${entry.key}`;
    byId(id)?.remove();
    if (entry.operation !== 'PUT') continue;
    const row = byId('keys').insertRow();
    row.id = id;
    for (const text of [entry.key, entry.string(), entry.revision]) {
      row.insertCell().textContent = text;
    }
  }
}

const server = new URLSearchParams(location.search).get('server');
if (server) document.querySelector('[name=server]').value = server;
