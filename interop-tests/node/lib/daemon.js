'use strict';
// A daemon of 2020: its own transfer swarm, one lookup swarm per channel, and what it provides and loads.

const { dialect } = require('./dialect');
const { createIdentity } = require('./identity');
const { lookupSwarm, transferSwarm } = require('./messages');
const { Provider } = require('./provider');
const { Requests } = require('./requests');
const { Swarm } = require('./swarm');
const loader = require('./loader');

class Daemon {
  /**
   * `options`: dialect, channels, bootstrap (undefined: the public ones), seed; misbehave, delay, rate, price (see Provider);
   * accepts, loses (see Swarm);
   * `relay`: to join the transfer swarms of all peers in the channels, as a daemon does that loaded from them. `report(event, fields)`.
   */
  constructor(options, report = () => {}) {
    this.report = report;
    this.options = options;
    this.dialect = dialect(options.dialect);
    this.identity = createIdentity(this.dialect, options.seed);
    this.bootstrap = options.bootstrap;
    this.provider = new Provider({ ...options, dialect: this.dialect, identity: this.identity, report });
    this.transfers = new Map(); // node id -> Requests of its transfer swarm, joined for the life of the process
    this.transfer(this.identity.nodeId);
    this.channels = (options.channels || []).map((name) => {
      const swarm = this.join(lookupSwarm(name));
      swarm.on('message', (message) => this.provider.seeking(swarm, message));
      if (options.relay) swarm.on('peer', (nodeId) => this.transfer(nodeId));
      return swarm;
    });
  }

  join(name) {
    const { accepts, loses } = this.options;
    const swarm = new Swarm({ dialect: this.dialect, identity: this.identity, name, bootstrap: this.bootstrap, accepts, loses });
    swarm.on('peer', (nodeId) => this.report('peer', { swarm: name, nodeId }));
    swarm.on('gone', (nodeId) => this.report('gone', { swarm: name, nodeId }));
    swarm.on('warning', (text) => this.report('warning', { swarm: name, text }));
    return swarm;
  }

  transfer(nodeId) {
    let requests = this.transfers.get(nodeId);
    if (!requests) {
      const swarm = this.join(transferSwarm(nodeId));
      requests = new Requests(swarm, (from, body, reply) => this.provider.answer(swarm, from, body, reply));
      this.transfers.set(nodeId, requests);
    }
    return requests;
  }

  swarms() {
    return [...this.channels, ...[...this.transfers.values()].map((requests) => requests.swarm)];
  }

  /** Resolves when all swarms have announced themselves once. */
  joined() {
    return Promise.all(this.swarms().map((swarm) => swarm.joined()));
  }

  /** Resolves when a channel has that many peers ready to talk. */
  async connected(count, timeout) {
    const until = Date.now() + timeout;
    const peers = () => new Set(this.channels.flatMap((swarm) => swarm.readyPeers().map((peer) => peer.nodeId))).size;
    while (peers() < count) {
      if (Date.now() > until) throw new Error(`only ${peers()} of ${count} peers after ${timeout} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  find(sha1, timeout) {
    return loader.find(this.channels, sha1, timeout);
  }

  /** Resolves to { bytes, sha1 }; rejects if the transfer fails or the hash differs. */
  async downloadFrom(found, sha1, dest) {
    const result = await loader.download(this.dialect, this.transfer(found.nodeId), found, sha1, dest);
    if (result.sha1 !== sha1) throw new Error(`hashes do not match: ${result.sha1} <> ${sha1}`);
    return result;
  }

  /** Tries the providers in the order found; resolves to { bytes, sha1, nodeId, errors }, nodeId null if all failed. */
  async load(sha1, dest, timeout) {
    const errors = [];
    for await (const found of this.find(sha1, timeout)) {
      this.report('found', found);
      try {
        return { ...await this.downloadFrom(found, sha1, dest), nodeId: found.nodeId, errors };
      } catch (error) {
        errors.push({ nodeId: found.nodeId, error: error.message });
      }
    }
    return { bytes: 0, sha1: null, nodeId: null, errors };
  }

  async close() {
    await Promise.all(this.swarms().map((swarm) => swarm.close()));
  }
}

module.exports = { Daemon };
