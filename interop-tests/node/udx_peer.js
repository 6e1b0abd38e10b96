#!/usr/bin/env node
'use strict';
// One end of a raw UDX stream on npm's udx-native:
//   udx_peer.js --id N --remote-id N [--port N] [--action NAME] [--bytes N] [--datagram-limit N]
// Binds to loopback and prints {"event":"ready","port":N}. With --port it connects there at once; without, to whoever
// sends first (firewall callback), as hyperdht does. Actions:
//   echo      sends back what it reads; ends when the other side ends
//   send      writes --bytes pseudo-random bytes, reports their hash, ends
//   receive   reads to the end, reports the hash, ends
//   both      send and receive at once
//   destroy   after the first bytes, destroys the stream
//   messages  sends back every unordered message
//   hold      reads nothing, writes nothing
// Prints a line of JSON for each event: ready, contact, received, sent, end, close (with the error's code).
// The bytes are those of `pattern` in udx_streams.rs: 32-bit xorshift words, little endian, seeded with --seed.

const { createHash } = require('crypto');
const { parseArgs } = require('util');
const UDX = require('udx-native');

const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    'remote-id': { type: 'string' },
    port: { type: 'string' },
    action: { type: 'string', default: 'echo' },
    bytes: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    text: { type: 'string', default: '' },
  },
});

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const remoteId = Number(values['remote-id']);
const total = Number(values.bytes);

const udx = new UDX();
const socket = udx.createSocket();
const stream = udx.createStream(Number(values.id), {
  firewall: (from, port, host) => {
    if (!stream.connected) {
      stream.connect(from, remoteId, port, host);
      report('contact', { port });
      begin();
    }
    return false;
  },
});

function* pattern(length, seed) {
  let state = seed >>> 0;
  while (length > 0) {
    const chunk = Buffer.allocUnsafe(Math.min(65536, length + 3) & ~3);
    for (let at = 0; at < chunk.length; at += 4) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      chunk.writeUInt32LE(state >>> 0, at);
    }
    yield chunk.subarray(0, Math.min(chunk.length, length));
    length -= chunk.length;
  }
}

function send() {
  const hash = createHash('sha1');
  const chunks = pattern(total, Number(values.seed));
  const more = () => {
    for (;;) {
      const { value, done } = chunks.next();
      if (done) break;
      hash.update(value);
      if (!stream.write(value)) return stream.once('drain', more);
    }
    report('sent', { bytes: total, sha1: hash.digest('hex') });
    stream.end();
  };
  more();
}

function receive(then) {
  const hash = createHash('sha1');
  let bytes = 0;
  stream.on('data', (chunk) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  stream.on('end', () => {
    report('received', { bytes, sha1: hash.digest('hex') });
    then();
  });
}

const actions = {
  echo: () => {
    stream.on('data', (chunk) => stream.write(chunk));
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
  messages: () => {
    stream.on('message', (message) => stream.trySend(message));
    stream.on('end', () => stream.end());
    stream.resume();
  },
  hold: () => {},
};

let begun = false;
function begin() {
  if (begun) return;
  begun = true;
  if (values.text) stream.write(values.text);
  actions[values.action]();
}

stream.on('end', () => report('end', {}));
stream.on('error', () => {});
stream.on('close', () => {
  report('close', { code: stream._readableState.error ? stream._readableState.error.code : null });
  socket.close().then(() => process.exit(0));
});
stream.once('error', (error) => report('error', { code: error.code || error.message }));

socket.bind(0, '127.0.0.1');
report('ready', { port: socket.address().port });
if (values.port) {
  stream.connect(socket, remoteId, Number(values.port), '127.0.0.1');
  begin();
}
