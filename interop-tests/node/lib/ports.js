'use strict';
// What attackers use instead of hyperswarm: one DHT node for many topics, plain TCP, no limits, no manners.

const { EventEmitter } = require('events');
const dht = require('@hyperswarm/dht');
const net = require('net');

/** A DHT node on `address` that only asks and announces. Resolves when it listens. */
function openNode(bootstrap, address = '127.0.0.1') {
  const node = dht({ bootstrap, ephemeral: true });
  node.on('warning', () => {});
  return new Promise((resolve) => node.listen(0, address, () => resolve(node)));
}

/** The ports announced for a topic: an array of { host, port }. */
function lookup(node, topic) {
  return new Promise((resolve) => {
    const found = new Map();
    node.lookup(topic)
      .on('data', ({ peers }) => { for (const peer of peers) found.set(`${peer.host}:${peer.port}`, peer); })
      .on('error', () => resolve([]))
      .on('end', () => resolve([...found.values()]));
  });
}

function announce(node, topic, port) {
  return new Promise((resolve) => node.announce(topic, { port }).on('error', resolve).on('end', resolve).resume());
}

/** Has the interface that Swarm needs of hyperswarm: join, flush, destroy, `connection`. Listens on a port of its own. */
class Ports extends EventEmitter {
  /** `dial`: whether to look up and dial others, too. */
  constructor(node, { address = '127.0.0.1', dial = false } = {}) {
    super();
    Object.assign(this, { node, address, dial });
    this.dialled = new Set();
    this.server = net.createServer((socket) => this.emit('connection', socket, { client: false }));
  }

  join(topic) {
    this.first = this.enter(topic);
  }

  async enter(topic) {
    await new Promise((resolve) => this.server.listen(0, this.address, resolve));
    const { port } = this.server.address();
    this.dialled.add(port); // itself
    await announce(this.node, topic, port);
    if (!this.dial) return;
    const look = async () => {
      for (const peer of await lookup(this.node, topic)) this.open(peer);
    };
    await look();
    this.timer = setInterval(look, 1000);
  }

  open({ host, port }) {
    if (this.dialled.has(port)) return;
    this.dialled.add(port);
    const socket = net.connect({ host, port, localAddress: this.address });
    socket.on('error', () => this.dialled.delete(port));
    socket.on('connect', () => this.emit('connection', socket, { client: true }));
  }

  flush(callback) {
    this.first.then(callback);
  }

  destroy(callback) {
    clearInterval(this.timer);
    this.server.close();
    callback();
  }
}

module.exports = { announce, lookup, openNode, Ports };
