#!/usr/bin/env node
'use strict';
// npm's protomux on npm's secret-stream, over TCP or UDX, on loopback:
//   protomux_peer.js [--initiator] [--udx --id N --remote-id N] [--open NAME]
// Prints {"event":"ready","port":N} and serves one connection; over UDX it connects to whoever sends first. With
// --initiator it is the side that begins the Noise handshake. Protocols that it accepts, with any id:
//   echo    sends back every message with its type; {"event":"echo"} names id and handshake. A message of type 2 on
//           it is written to the stream as it is, as a frame of its own.
//   late    decides only after a while, then behaves like echo
//   burst   answers a number n (uint) with n messages of type 0 (n as text) and one of type 1, corked
//   sink    hashes messages of type 0; answers type 1 with the hash, in hexadecimal
//   source  the handshake says how many bytes to send (uint): type 0, then type 1 with their hash; heeds back-pressure
//   closer  closes at the first message
// and with --open NAME it opens the channels NAME (with a handshake and three messages at once) and "unwanted".
// An alias: the channel "new-name" is opened at the start, to be found by its other name "old-name" as well.
// Prints a line of JSON for each event: echo, opened, closed (of a channel), destroyed (of the connection).

const net = require('net');
const { createHash } = require('crypto');
const { parseArgs } = require('util');
const SecretStream = require('@hyperswarm/secret-stream');
const Protomux = require('protomux');
const c = require('compact-encoding');

const { values } = parseArgs({
  options: {
    initiator: { type: 'boolean', default: false },
    udx: { type: 'boolean', default: false },
    id: { type: 'string' },
    'remote-id': { type: 'string' },
    open: { type: 'string', multiple: true, default: [] },
  },
});

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

function serve(raw) {
  const stream = new SecretStream(values.initiator, raw);
  const mux = new Protomux(stream);
  let error = null;
  stream.on('error', (err) => (error = err));
  stream.on('close', () => {
    report('destroyed', { error: error && error.message });
    process.exit(0);
  });

  const accept = (protocol, behave) => mux.pair({ protocol }, (id) => behave(protocol, id));
  accept('echo', echo);
  accept('late', async (protocol, id) => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    echo(protocol, id);
  });
  accept('burst', burst);
  accept('sink', sink);
  accept('source', source);
  accept('closer', closer);
  for (const name of values.open) {
    dial(name, ['hello', 'from', 'protomux']);
    dial('unwanted', ['lost']);
  }
  if (values.open.length > 0) dial('new-name', [], ['old-name']);

  function channel(protocol, id, options, handshake) {
    const channel = mux.createChannel({
      protocol,
      id,
      unique: false,
      handshake: c.raw,
      onclose: (isRemote) => report('closed', { protocol, isRemote }),
      ...options,
    });
    channel.open(Buffer.from(handshake || 'from protomux'));
    return channel;
  }

  function echo(protocol, id) {
    const onopen = (handshake) =>
      report('echo', { protocol, id: id && id.toString('hex'), handshake: handshake.toString() });
    const messages = [0, 1].map((type) => ({
      encoding: c.raw,
      onmessage: (message) => opened.messages[type].send(message),
    }));
    messages.push({ encoding: c.raw, onmessage: (frame) => stream.write(Buffer.from(frame)) });
    const opened = channel(protocol, id, { onopen, messages });
  }

  function burst(protocol, id) {
    const onmessage = (count) => {
      opened.cork();
      for (let n = 0; n < count; n++) opened.messages[0].send(String(n));
      opened.messages[1].send('done');
      opened.uncork();
    };
    const text = { encoding: c.string };
    const opened = channel(protocol, id, { messages: [{ encoding: c.string }, text, { encoding: c.uint, onmessage }] });
  }

  function sink(protocol, id) {
    const hash = createHash('sha1');
    const data = { encoding: c.raw, onmessage: (message) => hash.update(message) };
    const end = { encoding: c.raw, onmessage: () => opened.messages[1].send(Buffer.from(hash.digest('hex'))) };
    const opened = channel(protocol, id, { messages: [data, end] });
  }

  function source(protocol, id) {
    let left = 0;
    const hash = createHash('sha1');
    const more = () => {
      while (left > 0) {
        const piece = Buffer.alloc(Math.min(65536, left), left % 251);
        left -= piece.length;
        hash.update(piece);
        if (!opened.messages[0].send(piece)) break;
      }
      if (left === 0) {
        left = -1;
        opened.messages[1].send(Buffer.from(hash.digest('hex')));
      }
    };
    const onopen = (handshake) => {
      left = c.decode(c.uint, handshake);
      more();
    };
    const ondrain = () => left > 0 && more();
    const messages = [{ encoding: c.raw }, { encoding: c.raw }];
    const opened = channel(protocol, id, { onopen, ondrain, messages });
  }

  function closer(protocol, id) {
    const opened = channel(protocol, id, { messages: [{ encoding: c.raw, onmessage: () => opened.close() }] });
  }

  function dial(protocol, texts, aliases = []) {
    const onopen = (handshake) => report('opened', { protocol, handshake: handshake.toString() });
    const messages = [{ encoding: c.string, onmessage: (text) => report('heard', { protocol, text }) }];
    const opened = channel(protocol, null, { aliases, onopen, messages }, `open ${protocol}`);
    for (const text of texts) opened.messages[0].send(text);
  }
}

if (values.udx) {
  const UDX = require('udx-native');
  const udx = new UDX();
  const socket = udx.createSocket();
  const stream = udx.createStream(Number(values.id), {
    framed: true,
    firewall: (from, port, host) => {
      if (!stream.connected) stream.connect(from, Number(values['remote-id']), port, host);
      return false;
    },
  });
  serve(stream);
  socket.bind(0, '127.0.0.1');
  report('ready', { port: socket.address().port });
} else {
  const server = net.createServer((socket) => {
    server.close();
    socket.setNoDelay(true);
    serve(socket);
  });
  server.listen(0, '127.0.0.1', () => report('ready', { port: server.address().port }));
}
