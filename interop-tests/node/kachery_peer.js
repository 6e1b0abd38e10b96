#!/usr/bin/env node
'use strict';
// A peer that behaves like a kachery-p2p daemon of 2020, for tests. Prints JSON lines of what happens.
//
//   kachery_peer.js --dialect 0.1.2|0.1.6|0.2.1 --channel NAME [--channel NAME]...
//     [--bootstrap HOST:PORT]... [--no-mdns]   where to find others (without --bootstrap: multicast DNS only)
//     [--file PATH]... [--misbehave die|lie|stall|garbage|short|long] [--answer-delay MS]   what to provide, and how
//     [--rate BYTES_PER_SECOND] [--price]   slowly; at the original's price: a process for each request
//     [--only NODE]... [--relay] [--relay-loss PERCENT] [--relay-seed N]   be reachable for these nodes only; relay for all, and lose some
//     of the requests and answers
//     [--find SHA1 | --load SHA1 --dest FILE] [--repeat N] [--peers N] [--timeout SECONDS]  one errand, then exit
//     [--commands]   errands from standard input: `find SHA1`, `load SHA1 FILE`, `quit`; ends with it
//     [--seed HEX]   a fixed identity
//
// Exit code of an errand: 0 done, 3 nobody has it, 4 found but not loaded, 8 no peer or no end within --timeout.

const { parseArgs } = require('util');
const readline = require('readline');

const { values: options } = parseArgs({
  options: {
    dialect: { type: 'string' },
    channel: { type: 'string', multiple: true, default: [] },
    bootstrap: { type: 'string', multiple: true, default: [] },
    'no-mdns': { type: 'boolean', default: false },
    file: { type: 'string', multiple: true, default: [] },
    misbehave: { type: 'string' },
    'answer-delay': { type: 'string', default: '0' },
    rate: { type: 'string', default: 'Infinity' },
    price: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    relay: { type: 'boolean', default: false },
    'relay-loss': { type: 'string', default: '0' },
    'relay-seed': { type: 'string', default: '1' },
    find: { type: 'string' },
    load: { type: 'string' },
    dest: { type: 'string' },
    repeat: { type: 'string', default: '1' },
    peers: { type: 'string', default: '1' },
    timeout: { type: 'string', default: '30' },
    commands: { type: 'boolean', default: false },
    'exit-with-stdin': { type: 'boolean', default: false },
    seed: { type: 'string' },
  },
});

if (options['no-mdns']) require('./lib/quiet_mdns').silenceMdns();
const { Daemon } = require('./lib/daemon');
const { misbehaviours } = require('./lib/misbehave');

const report = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const milliseconds = (since) => Number(process.hrtime.bigint() - since) / 1e6;

/** Loses `percent` of the requests and answers, which ones is up to the seed (32-bit xorshift). Seekings are not lost: each is sent once. */
function lossy(percent, seed) {
  let state = seed;
  return ({ type }) => {
    if (type !== 'requestToNode' && type !== 'messageToNode') return false;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % 10000 < percent * 100;
  };
}

async function findOnce(daemon, sha1) {
  const started = process.hrtime.bigint();
  for await (const found of daemon.find(sha1, 4000)) {
    report('found', { ...found, ms: milliseconds(started) });
    return 0;
  }
  report('not-found', { sha1 });
  return 3;
}

async function loadOnce(daemon, sha1, dest) {
  const started = process.hrtime.bigint();
  const result = await daemon.load(sha1, dest, 4000);
  const seconds = milliseconds(started) / 1000;
  if (result.nodeId) {
    report('loaded', { ...result, seconds });
    return 0;
  }
  report('failed', { errors: result.errors, seconds });
  return result.errors.length ? 4 : 3;
}

async function errand(daemon) {
  await daemon.connected(Number(options.peers), Number(options.timeout) * 1000);
  let code = 0;
  for (let i = 0; i < Number(options.repeat) && code === 0; i++) {
    code = options.load ? await loadOnce(daemon, options.load, options.dest) : await findOnce(daemon, options.find);
  }
  return code;
}

async function commands(daemon) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, sha1, dest] = line.trim().split(' ');
    if (verb === 'find') await findOnce(daemon, sha1);
    else if (verb === 'load') await loadOnce(daemon, sha1, dest);
    else if (verb === 'connected') await daemon.connected(Number(sha1), Number(options.timeout) * 1000).then(() => report('connected'));
    else if (verb === 'quit') break;
    else report('unknown-command', { line });
  }
}

async function main() {
  if (options.load && !options.dest) throw new Error('--load needs --dest FILE');
  if (options.misbehave && !misbehaviours[options.misbehave]) throw new Error(`unknown --misbehave ${options.misbehave}`);
  const daemon = new Daemon({
    dialect: options.dialect,
    channels: options.channel,
    bootstrap: options.bootstrap,
    misbehave: options.misbehave,
    delay: Number(options['answer-delay']),
    rate: Number(options.rate),
    price: options.price,
    accepts: options.only && ((nodeId) => options.only.includes(nodeId)),
    relay: options.relay,
    loses: lossy(Number(options['relay-loss']), Number(options['relay-seed'])),
    seed: options.seed && Buffer.from(options.seed, 'hex'),
  }, report);
  const files = await Promise.all(options.file.map((path) => daemon.provider.add(path)));
  await daemon.joined();
  report('ready', { nodeId: daemon.identity.nodeId, pid: process.pid, files });

  const stop = async (code) => {
    setTimeout(() => process.exit(code), 2000).unref();
    await daemon.close();
    process.exit(code);
  };
  process.on('SIGTERM', () => stop(0));
  process.on('SIGINT', () => stop(0));
  if (options.find || options.load) {
    const limit = setTimeout(() => {
      report('timeout');
      process.exit(8);
    }, Number(options.timeout) * 1000);
    const code = await errand(daemon);
    clearTimeout(limit);
    await stop(code);
  } else if (options.commands) {
    await commands(daemon);
    await stop(0);
  } else if (options['exit-with-stdin']) {
    process.stdin.on('end', () => stop(0)).resume();
  }
}

main().catch((error) => {
  report('error', { error: error.message });
  process.exit(error.message.startsWith('only ') ? 8 : 1);
});
