#!/usr/bin/env node
'use strict';
// One end of a raw UDX stream on npm's udx-native:
//   udx_peer.js --id N --remote-id N [--port N] [--action NAME] [--bytes N] [--text TEXT] [--framed]
// Binds to loopback and prints {"event":"ready","port":N}. With --port it connects there at once; without, to whoever
// sends first (firewall callback), as hyperdht does.
// With --framed it takes what it reads for frames, as hyperdht's streams do.
// --text is written first, whatever the action. Actions:
//   echo      sends back what it reads; ends when the other side ends
//   send      writes --bytes pseudo-random bytes, reports their hash, ends
//   receive   reads to the end, reports the hash, ends
//   both      send and receive at once
//   destroy   after the first bytes, destroys the stream
//   messages  sends back every unordered message
//   hold      reads nothing, writes nothing
// Prints a line of JSON for each event: ready, contact, received, sent, end, close (with the error's code).

const { parseArgs } = require('util');
const UDX = require('udx-native');
const traffic = require('./lib/traffic');

const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    'remote-id': { type: 'string' },
    port: { type: 'string' },
    action: { type: 'string', default: 'echo' },
    bytes: { type: 'string', default: '0' },
    text: { type: 'string', default: '' },
    framed: { type: 'boolean', default: false },
  },
});

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const remoteId = Number(values['remote-id']);

const udx = new UDX();
const socket = udx.createSocket();
const stream = udx.createStream(Number(values.id), {
  framed: values.framed,
  firewall: (from, port, host) => {
    if (!stream.connected) {
      stream.connect(from, remoteId, port, host);
      report('contact', { port });
      begin();
    }
    return false;
  },
});

const actions = {
  echo: () => {
    stream.on('data', (chunk) => stream.write(chunk));
    stream.on('end', () => stream.end());
  },
  ...traffic(stream, Number(values.bytes), report),
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
