#!/usr/bin/env node
'use strict';
// A bootstrap node of the v2 DHT: bootstrap.js [--host ADDRESS] [--port PORT] [--bootstrap HOST:PORT]...
// Prints {"event":"ready","host":...,"port":...}; ends with SIGTERM, SIGINT or when its standard input ends.

const { parseArgs } = require('util');
const dht = require('@hyperswarm/dht');

const { values } = parseArgs({
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    bootstrap: { type: 'string', multiple: true, default: [] },
    'exit-with-stdin': { type: 'boolean', default: false },
  },
});

const node = dht({ bootstrap: values.bootstrap, ephemeral: false });
node.on('warning', () => {});
node.listen(Number(values.port), values.host, () => {
  const { address, port } = node.address();
  process.stdout.write(`${JSON.stringify({ event: 'ready', host: address, port })}\n`);
});
const stop = () => process.exit(0);
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
if (values['exit-with-stdin']) process.stdin.on('end', stop).resume();
