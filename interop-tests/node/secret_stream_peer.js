#!/usr/bin/env node
'use strict';
// One end of a secret stream on npm's @hyperswarm/secret-stream:
//   secret_stream_peer.js --transport tcp|udx --port N [--id N --remote-id N] [--initiator] [--remote-key HEX]
//                         [--action NAME] [--bytes N] [--keep-alive MS]
// Connects to --port on loopback. Its key pair is that of a seed of 32 bytes 2. With --remote-key the handshake is IK.
// Actions:
//   echo      sends back every message, and unordered ones unordered; ends when the other side ends
//   send      writes --bytes bytes in messages of 64 KiB, reports their hash, ends
//   receive   reads to the end, reports the hash, ends
//   both      send and receive at once
//   destroy   after the first message, destroys the stream
//   hold      reads, and says nothing
// Prints a line of JSON for each event: ready (with the UDX port), open (with the peer's key), received, sent, end,
// close (with the error and how many bytes were received).
// The bytes are those of `pattern` in secret_streams.rs: byte n is the low byte of n + n / 256.

const { createHash } = require('crypto');
const net = require('net');
const { parseArgs } = require('util');
const SecretStream = require('@hyperswarm/secret-stream');
const UDX = require('udx-native');

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
const total = Number(values.bytes);
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
  const stream = udx.createStream(Number(values.id));
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

function pattern(at, length) {
  const chunk = Buffer.allocUnsafe(length);
  for (let n = 0; n < length; n++) chunk[n] = (at + n) + Math.floor((at + n) / 256);
  return chunk;
}

function send() {
  const hash = createHash('sha1');
  let at = 0;
  const more = () => {
    while (at < total) {
      const chunk = pattern(at, Math.min(65536, total - at));
      at += chunk.length;
      hash.update(chunk);
      if (!stream.write(chunk)) return stream.once('drain', more);
    }
    report('sent', { bytes: total, sha1: hash.digest('hex') });
    stream.end();
  };
  more();
}

function receive(then) {
  const hash = createHash('sha1');
  let bytes = 0;
  stream.on('data', (message) => {
    hash.update(message);
    bytes += message.length;
  });
  stream.on('end', () => {
    report('received', { bytes, sha1: hash.digest('hex') });
    then();
  });
}

const actions = {
  echo: () => {
    stream.on('data', (message) => stream.write(message));
    stream.on('message', (message) => stream.trySend(message));
    stream.on('end', () => stream.end());
  },
  send: () => {
    stream.resume();
    send();
  },
  receive: () => receive(() => stream.end()),
  both: () => {
    receive(() => {});
    send();
  },
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
