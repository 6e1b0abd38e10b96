#!/usr/bin/env node
'use strict';
// A bare hyperswarm 2.14 on one topic, for tests of connections below kachery:
//   swarm_echo.js --topic HEX [--bootstrap HOST:PORT]... [--mdns] [--say TEXT]
// On connections it accepted it sends back what it reads. On connections it dialled it writes TEXT and reports what
// comes back. Prints a line of JSON for each event: ready (with its port), announced, connection, echoed, closed.
// Ends with SIGTERM or SIGINT (leaving the topic) or with its standard input if --exit-with-stdin.

const { parseArgs } = require('util');
const { EventEmitter } = require('events');

const { values } = parseArgs({
  options: {
    topic: { type: 'string' },
    bootstrap: { type: 'string', multiple: true, default: [] },
    mdns: { type: 'boolean', default: false },
    say: { type: 'string', default: '' },
    'exit-with-stdin': { type: 'boolean', default: false },
  },
});

// hyperswarm 2.14 has no option to do without multicast DNS: give it one that hears and says nothing.
if (!values.mdns) {
  const path = require.resolve('multicast-dns', { paths: [require.resolve('@hyperswarm/discovery')] });
  const silent = () => Object.assign(new EventEmitter(), { query() {}, response() {}, destroy() {} });
  require.cache[path] = { id: path, filename: path, loaded: true, exports: silent };
}
const hyperswarm = require('hyperswarm');

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const topic = Buffer.from(values.topic || '', 'hex');
if (topic.length !== 32) {
  process.stderr.write('--topic needs 64 hexadecimal digits\n');
  process.exit(2);
}

const swarm = hyperswarm({ bootstrap: values.bootstrap });
swarm.on('connection', (socket, info) => {
  report('connection', { dialled: info.client, type: info.type, port: socket.remotePort });
  socket.on('error', () => {});
  socket.on('close', () => report('closed', { dialled: info.client }));
  if (info.client) {
    socket.on('data', (bytes) => report('echoed', { text: bytes.toString() }));
    if (values.say) socket.write(values.say);
  } else {
    socket.on('data', (bytes) => socket.write(bytes));
  }
});
swarm.on('updated', () => report('announced', {}));
swarm.on('listening', () => report('ready', { port: swarm.address().port }));
swarm.join(topic, { announce: true, lookup: true });

const stop = () => swarm.destroy(() => process.exit(0));
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
if (values['exit-with-stdin']) process.stdin.on('end', stop).resume();
