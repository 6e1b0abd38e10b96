'use strict';
// Shared by the tests: a private DHT, temporary files, daemons in this process and peers in their own.

require('./quiet_mdns').silenceMdns();
const crypto = require('crypto');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { spawn } = require('child_process');
const readline = require('readline');
const dht = require('@hyperswarm/dht');
const { Daemon } = require('./daemon');

const VECTORS = path.join(__dirname, '..', '..', 'vectors', 'v2');
const vectors = (name) => JSON.parse(fs.readFileSync(path.join(VECTORS, name), 'utf8'));

/** What a test opens; `close` ends it all, last opened first. */
class Lab {
  constructor() {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kachery-peers-'));
    this.closers = [];
  }

  async start() {
    const node = dht({ bootstrap: [], ephemeral: false });
    await new Promise((resolve) => node.listen(0, '127.0.0.1', resolve));
    this.closers.push(() => node.destroy());
    this.bootstrap = [`127.0.0.1:${node.address().port}`];
    return this;
  }

  /** A file of pseudo-random bytes that depend on its name and size only. */
  file(name, size) {
    const file = path.join(this.folder, name);
    const blocks = [];
    for (let i = 0; i * 32 < size; i++) blocks.push(crypto.createHash('sha256').update(`${name}:${i}`).digest());
    const content = Buffer.concat(blocks).subarray(0, size);
    fs.writeFileSync(file, content);
    return { path: file, sha1: crypto.createHash('sha1').update(content).digest('hex'), content };
  }

  /** A daemon in this process, its files added and its swarms announced. */
  async daemon(options, files = [], report) {
    const daemon = new Daemon({ channels: ['lab'], bootstrap: this.bootstrap, ...options }, report);
    this.closers.push(() => daemon.close());
    for (const file of files) await daemon.provider.add(file.path);
    await daemon.joined();
    return daemon;
  }

  /** kachery_peer.js in its own process; resolves when it is ready. `events` grows; `ended` resolves to its exit. */
  async peer(...args) {
    const script = path.join(__dirname, '..', 'kachery_peer.js');
    const bootstrap = this.bootstrap.flatMap((address) => ['--bootstrap', address]);
    const child = spawn(process.execPath, [script, '--no-mdns', '--channel', 'lab', ...bootstrap, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.closers.push(() => child.kill('SIGKILL'));
    const peer = { events: [], stderr: '', child };
    child.stderr.on('data', (text) => { peer.stderr += text; });
    peer.ended = new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
    await new Promise((resolve, reject) => {
      readline.createInterface({ input: child.stdout }).on('line', (line) => {
        const event = JSON.parse(line);
        peer.events.push(event);
        if (event.event === 'ready') resolve();
      });
      peer.ended.then(() => reject(new Error(`the peer ended before it was ready: ${peer.stderr}`)));
    });
    return peer;
  }

  async close() {
    for (const close of this.closers.reverse()) await close();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs `body` with a started lab and closes it whatever happens. */
async function inLab(body) {
  const lab = new Lab();
  try {
    await lab.start();
    await body(lab);
  } finally {
    await lab.close();
  }
}

module.exports = { inLab, vectors };
