'use strict';
// One neighbour in one swarm: at most one incoming and one outgoing socket, dropped together.

const { envelope } = require('./messages');

const TICK_MS = 100;
const KEEP_ALIVE_AFTER_MS = 5000;
const DEAD_AFTER_MS = 10000;

class Peer {
  /** `handlers`: onMessage(peer, body), onGone(peer). */
  constructor(identity, nodeId, handlers) {
    this.identity = identity;
    this.nodeId = nodeId;
    this.handlers = handlers;
    this.links = { incoming: null, outgoing: null }; // { socket, json, ready }
    this.queue = []; // without limit, as in the originals
    this.gone = false;
    this.lastSent = this.lastReceived = Date.now();
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  /** A socket whose `initial` was good. Replaces one of the same kind without closing it. */
  attach(kind, socket, json) {
    const link = { socket, json, ready: false };
    this.links[kind] = link;
    socket.on('close', () => this.drop());
    json.sendMessage(envelope(this.identity, { type: 'ready' }));
    return link;
  }

  /** Throws what the signature check throws; json-socket then answers with its unsigned error frame. */
  receive(link, frame) {
    const { body, signature } = frame;
    if (!body || typeof signature !== 'string' || !this.identity.verify(JSON.stringify(body), signature, this.nodeId)) {
      this.drop();
      return;
    }
    if (body.type === 'ready') {
      link.ready = true;
      this.flush();
      return;
    }
    this.lastReceived = Date.now();
    if (body.type !== 'keepAlive') this.handlers.onMessage(this, body);
  }

  /** Signs for this neighbour. What hypersign cannot sign (over 1000 bytes) is silently not sent. */
  send(body) {
    this.lastSent = Date.now();
    let frame;
    try {
      frame = envelope(this.identity, body);
    } catch (error) {
      return;
    }
    this.queue.push(frame);
    this.flush();
  }

  flush() {
    const link = [this.links.incoming, this.links.outgoing].find((each) => each && each.ready);
    if (!link) return;
    for (const frame of this.queue.splice(0)) link.json.sendMessage(frame);
  }

  get ready() {
    return [this.links.incoming, this.links.outgoing].some((link) => link && link.ready);
  }

  tick() {
    const now = Date.now();
    if (now - this.lastReceived > DEAD_AFTER_MS) this.drop();
    else if (now - this.lastSent > KEEP_ALIVE_AFTER_MS) this.send({ type: 'keepAlive' });
  }

  drop() {
    if (this.gone) return;
    this.gone = true;
    clearInterval(this.timer);
    for (const link of Object.values(this.links)) if (link) link.socket.destroy();
    this.handlers.onGone(this);
  }
}

module.exports = { Peer };
