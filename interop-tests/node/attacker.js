#!/usr/bin/env node
'use strict';
// Attacks on daemons, for tests. Prints JSON lines of what happens; `ready` when the attack is under way. Goes on until it is killed.
//
//   attacker.js claims --sha1 SHA1 --claim SIZE:COUNT:BEHAVIOUR[:MS] [--claim ...]   claims to have a file (see lib/stranger.js), MS apart
//   attacker.js places --victim NODE --count N   takes N places of each topic of the node, from each --address
//   attacker.js replay --victim NODE --of NODE --count N   records VICTIM's `ready`, and connects as VICTIM to OF's transfer swarm
//   attacker.js readers --victim NODE --sha1 SHA1 --size N --count N   the same; asks for as much as it may, and reads nothing
//   attacker.js requests --victim NODE --sha1 SHA1 --size N --length N --count N --rate N   N links from each --address, each with N requests a second for
//                                                                LENGTH bytes of the file; reads and discards all that comes
//   attacker.js flood --victim NODE --message unknown|seeking|answer --rate N   N signed broadcasts a second, from each --address to each
//                                                                member of the channel, or with --topics all to each port of the node's topics as well
//   attacker.js records --count N [--topics own|others]  announces N ports at the bootstrap node, for the channel's topics or for others
//   attacker.js beside --count N                 N DHT nodes with ids next to each of the channel's topics, that store nothing
//
// All take --bootstrap HOST:PORT --channel NAME (places and readers: several) [--address ADDRESS]...

const { parseArgs } = require('util');
const { attacks } = require('./lib/attacks');

const { values: options, positionals: [name] } = parseArgs({
  allowPositionals: true,
  options: {
    bootstrap: { type: 'string', multiple: true },
    channel: { type: 'string', multiple: true },
    address: { type: 'string', multiple: true, default: ['127.0.0.1'] },
    sha1: { type: 'string' },
    size: { type: 'string' },
    length: { type: 'string', default: '1' },
    port: { type: 'string', default: '0' },
    claim: { type: 'string', multiple: true, default: [] },
    count: { type: 'string', default: '1' },
    victim: { type: 'string' },
    of: { type: 'string' },
    rate: { type: 'string', default: '3000' },
    message: { type: 'string', default: 'unknown' },
    topics: { type: 'string', default: 'own' },
  },
});

const report = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

async function main() {
  const attack = attacks[name];
  if (!attack) throw new Error(`unknown attack ${name}: use ${Object.keys(attacks).join(', ')}`);
  await attack({ ...options, count: Number(options.count), size: Number(options.size), length: Number(options.length), port: Number(options.port), rate: Number(options.rate) }, report);
}

main().catch((error) => {
  report('error', { error: error.stack });
  process.exit(1);
});
