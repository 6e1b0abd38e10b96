#!/usr/bin/env node
'use strict';
// A member of topics on npm's hyperswarm 4, on a private network:
//   swarm_v4_peer.js --bootstrap HOST:PORT --topic HEX [--seed HEX] [--host HOST] [--no-server] [--no-client]
// Sends 'hello from them' on each connection, and answers the first message with 'got ' and the same.
// Prints a line of JSON for each event: joined (the own key), connection (the peer's key, who has dialled), message, closed.
// Runs until it is killed.

const { parseArgs } = require('util');
const DHT = require('hyperdht');
const Hyperswarm = require('hyperswarm4');

const { values } = parseArgs({
  options: {
    bootstrap: { type: 'string' },
    topic: { type: 'string' },
    seed: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    'no-server': { type: 'boolean', default: false },
    'no-client': { type: 'boolean', default: false },
  },
});

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const hex = (buffer) => Buffer.from(buffer).toString('hex');

async function main() {
  const [host, port] = values.bootstrap.split(':');
  const dht = new DHT({ bootstrap: [{ host, port: Number(port) }], host: values.host });
  const swarm = new Hyperswarm({ dht, seed: values.seed && Buffer.from(values.seed, 'hex') });
  swarm.on('connection', (socket) => {
    const peer = hex(socket.remotePublicKey);
    report('connection', { peer, client: socket.isInitiator });
    socket.on('error', () => {});
    socket.on('close', () => report('closed', { peer }));
    socket.once('data', (data) => {
      report('message', { peer, text: data.toString() });
      socket.write(Buffer.concat([Buffer.from('got '), data]));
    });
    socket.write(Buffer.from('hello from them'));
  });
  const discovery = swarm.join(Buffer.from(values.topic, 'hex'), {
    server: !values['no-server'],
    client: !values['no-client'],
  });
  await discovery.flushed();
  report('joined', { key: hex(swarm.keyPair.publicKey) });
}

main().catch((error) => report('failed', { reason: error.stack }));
