#!/usr/bin/env node
'use strict';
// One end of a secret stream on npm's @hyperswarm/secret-stream:
//   secret_stream_peer.js --transport tcp|udx --port N [--id N --remote-id N] [--initiator] [--remote-key HEX]
//                         [--ik] [--action NAME] [--bytes N] [--keep-alive MS]
// Connects to --port on loopback. Its key pair is that of a seed of 32 bytes 2. With --ik the handshake is IK, for which
// its initiator needs --remote-key.
// Actions:
//   echo      sends back every message, and unordered ones unordered; ends when the other side ends
//   send      writes --bytes bytes in messages of 64 KiB, reports their hash, ends
//   receive   reads to the end, reports the hash, ends
//   both      send and receive at once
//   destroy   after the first message, destroys the stream
//   hold      reads, and says nothing
// Prints a line of JSON for each event: ready (with the UDX port), open (with the peer's key), received, sent, end,
// close (with the error and how many bytes were received).

const net = require('net');
const { parseArgs } = require('util');
const SecretStream = require('@hyperswarm/secret-stream');
const UDX = require('udx-native');
const traffic = require('./lib/traffic');

const { values } = parseArgs({
  options: {
    transport: { type: 'string', default: 'tcp' },
    port: { type: 'string' },
    id: { type: 'string' },
    'remote-id': { type: 'string' },
    initiator: { type: 'boolean', default: false },
    'remote-key': { type: 'string' },
    ik: { type: 'boolean', default: false },
    action: { type: 'string', default: 'echo' },
    bytes: { type: 'string', default: '0' },
    'keep-alive': { type: 'string', default: '0' },
  },
});

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const port = Number(values.port);

let cleanUp = () => {};
function connect() {
  if (values.transport === 'tcp') {
    const socket = net.connect(port, '127.0.0.1');
    report('ready', { port: 0 });
    return socket;
  }
  const udx = new UDX();
  const socket = udx.createSocket();
  socket.bind(0, '127.0.0.1');
  const stream = udx.createStream(Number(values.id), { framed: true });
  stream.connect(socket, Number(values['remote-id']), port, '127.0.0.1');
  cleanUp = () => socket.close();
  report('ready', { port: socket.address().port });
  return stream;
}

const stream = new SecretStream(values.initiator, connect(), {
  keyPair: SecretStream.keyPair(Buffer.alloc(32, 2)),
  pattern: values.ik ? 'IK' : 'XX',
  remotePublicKey: values['remote-key'] ? Buffer.from(values['remote-key'], 'hex') : null,
  keepAlive: Number(values['keep-alive']),
});

const actions = {
  echo: () => {
    stream.on('data', (message) => stream.write(message));
    stream.on('message', (message) => stream.trySend(message));
    stream.on('end', () => stream.end());
  },
  ...traffic(stream, Number(values.bytes), report),
  destroy: () => stream.once('data', () => stream.destroy()),
  hold: () => {
    stream.on('data', (message) => report('message', { length: message.length }));
    stream.on('end', () => stream.end());
  },
};

stream.on('connect', () => {
  report('open', { remote: stream.remotePublicKey.toString('hex'), hash: stream.handshakeHash.toString('hex') });
});
stream.on('end', () => report('end', {}));
let failure = null;
stream.on('error', (error) => { failure = error.code || error.message; });
stream.on('close', () => {
  report('close', { error: failure, bytes: stream.rawBytesRead });
  Promise.resolve(cleanUp()).then(() => process.exit(0));
});
actions[values.action]();
