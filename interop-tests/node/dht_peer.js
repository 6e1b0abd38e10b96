#!/usr/bin/env node
'use strict';
// Nodes of today's DHT on npm's hyperdht, on loopback:
//   dht_peer.js --testnet N                                 a network of N nodes of its own (hyperdht's testnet)
//   dht_peer.js --bootstrap HOST:PORT [--host HOST] [--persistent] [ACTION [ARGUMENT...]]...
// The second form enters a network and does one action after the other, each a single argument with spaces in it:
//   'find-node TARGET'  'ping PORT'
//   'announce TOPIC SEED'  'unannounce TOPIC SEED'  'lookup TOPIC'  'listen SEED'  'find-peer KEY'
//   'connect KEY [--no-lan] [--no-fast-open] [--line]' sends 'from them' and reports the first message that comes back
// A server answers the first message of each connection with 'got ' and the same.
//   'mutable-put SEED SEQ TEXT'  'mutable-get KEY'  'immutable-put TEXT'  'immutable-get HASH'
// Targets, topics, seeds, keys and hashes are 64 hexadecimal digits.
// Prints a line of JSON for each event: ready (ports of the nodes, their ids), then for each action one named after it;
// failed, with the reason, if an action throws. Runs until it is killed.

const { parseArgs } = require('util');
const DHT = require('hyperdht');
const createTestnet = require('hyperdht/testnet');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    testnet: { type: 'string' },
    bootstrap: { type: 'string' },
    persistent: { type: 'boolean', default: false },
    host: { type: 'string', default: '127.0.0.1' },
  },
});

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const bytes = (hex) => Buffer.from(hex, 'hex');
const hex = (buffer) => (buffer ? Buffer.from(buffer).toString('hex') : null);
const keys = (seed) => DHT.keyPair(bytes(seed));
const address = (node) => `${node.host}:${node.port}`;
const ready = (nodes) =>
  report('ready', { ports: nodes.map((node) => node.address().port), ids: nodes.map((node) => hex(node.id)) });

// What the replies of a query say, and the nodes it found closest.
async function all(query, each = () => []) {
  const found = [];
  for await (const reply of query) found.push(...each(reply));
  return { found, closest: query.closestReplies.map((reply) => ({ at: address(reply.from), id: hex(reply.id || (reply.from && reply.from.id)) })) };
}

const peer = ({ publicKey, relayAddresses }) => ({ key: hex(publicKey), relays: relayAddresses.map(address) });

const actions = {
  'find-node': (node, target) => all(node.findNode(bytes(target))),
  ping: async (node, port) => {
    const { from, to } = await node.ping({ host: '127.0.0.1', port: Number(port) });
    return { id: hex(from.id), to: address(to) };
  },
  announce: async (node, topic, seed) => {
    const query = node.announce(bytes(topic), keys(seed), [{ host: '127.0.0.1', port: 4711 }]);
    await query.finished();
    return { stored: query.closestNodes.length };
  },
  unannounce: async (node, topic, seed) => {
    await node.unannounce(bytes(topic), keys(seed));
    return {};
  },
  lookup: (node, topic) => all(node.lookup(bytes(topic)), ({ peers }) => peers.map(peer)),
  listen: async (node, seed) => {
    const server = node.createServer({ shareLocalAddress: true }, (socket) => {
      socket.on('error', () => {});
      socket.once('data', (data) => socket.write(Buffer.concat([Buffer.from('got '), data])));
    });
    await server.listen(keys(seed));
    return { key: hex(server.publicKey), relays: server.relayAddresses.map(address) };
  },
  connect: (node, key, ...flags) =>
    new Promise((resolve, reject) => {
      const begun = Date.now();
      const socket = node.connect(bytes(key), {
        localConnection: !flags.includes('--no-lan'),
        fastOpen: !flags.includes('--no-fast-open'),
      });
      socket.on('error', reject);
      socket.write(Buffer.from(flags.includes('--line') ? 'from them\n' : 'from them'));
      socket.once('data', (data) => resolve({ text: data.toString(), ms: Date.now() - begun, remote: hex(socket.remotePublicKey) }));
    }),
  'find-peer': (node, key) => all(node.findPeer(bytes(key)), (reply) => [peer(reply.peer)]),
  'mutable-put': async (node, seed, seq, text) => {
    const put = await node.mutablePut(keys(seed), Buffer.from(text), { seq: Number(seq) });
    return { stored: put.closestNodes.length, key: hex(put.publicKey) };
  },
  'mutable-get': async (node, key) => {
    const got = await node.mutableGet(bytes(key));
    return got ? { seq: got.seq, text: got.value.toString() } : {};
  },
  'immutable-put': async (node, text) => {
    const put = await node.immutablePut(Buffer.from(text));
    return { stored: put.closestNodes.length, hash: hex(put.hash) };
  },
  'immutable-get': async (node, hash) => {
    const got = await node.immutableGet(bytes(hash));
    return got ? { text: got.value.toString() } : {};
  },
};

async function main() {
  if (values.testnet) {
    ready((await createTestnet(Number(values.testnet))).nodes);
    return;
  }
  const [host, port] = values.bootstrap.split(':');
  const node = new DHT({
    bootstrap: [{ host, port: Number(port) }],
    host: values.host,
    ephemeral: !values.persistent,
    firewalled: !values.persistent,
  });
  await node.fullyBootstrapped();
  ready([node]);
  for (const action of positionals) {
    const [name, ...rest] = action.split(' ');
    report(name, await actions[name](node, ...rest));
  }
}

main().catch((error) => report('failed', { reason: error.stack }));
