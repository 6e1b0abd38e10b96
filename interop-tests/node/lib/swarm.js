'use strict';
// One hyperswarm instance for one topic: its own port, peers and memory of message ids.

const { EventEmitter } = require('events');
const JsonSocket = require('json-socket');
const hyperswarm = require('hyperswarm');
const messages = require('./messages');
const { Peer } = require('./peer');

/** Emits `peer` (node id), `gone` (node id), `message` (message, from node id), `warning` (text). */
class Swarm extends EventEmitter {
  /**
   * `network`: what finds and connects peers instead of hyperswarm; `accepts(nodeId)`: false for peers to refuse;
   * `loses(message)`: true for messages not to relay.
   */
  constructor({ dialect, identity, name, bootstrap, network = hyperswarm({ bootstrap }), accepts = () => true, loses = () => false }) {
    super();
    Object.assign(this, { dialect, identity, name, accepts, loses });
    this.topic = messages.topicOf(dialect.protocol, name);
    this.peers = new Map();
    this.seen = new Set(); // message ids, never pruned in the originals
    this.hyperswarm = network;
    this.hyperswarm.on('connection', (socket, details) => this.connected(socket, details.client));
    this.hyperswarm.join(this.topic, { announce: true, lookup: true });
  }

  /** Resolves when the first announce and lookup have ended. */
  joined() {
    return new Promise((resolve) => this.hyperswarm.flush(() => resolve()));
  }

  readyPeers() {
    return [...this.peers.values()].filter((peer) => peer.ready);
  }

  connected(socket, dialled) {
    const json = new JsonSocket(socket);
    let peer = null;
    let link = null;
    socket.on('error', () => {});
    socket.on('message', (frame) => {
      if (peer) return peer.receive(link, frame);
      if (!this.acceptsInitial(frame, dialled)) return socket.destroy();
      peer = this.peerOf(frame.nodeId);
      link = peer.attach(dialled ? 'outgoing' : 'incoming', socket, json);
    });
    json.sendMessage(messages.initial(dialled, this.identity.nodeId, this.dialect.protocol));
  }

  acceptsInitial(frame, dialled) {
    return frame.type === 'initial' &&
      frame.protocolVersion === this.dialect.protocol &&
      typeof frame.nodeId === 'string' && frame.nodeId.length > 0 && frame.nodeId.length <= 256 && this.accepts(frame.nodeId) &&
      frame.from === (dialled ? 'client' : 'server');
  }

  peerOf(nodeId) {
    let peer = this.peers.get(nodeId);
    if (!peer) {
      peer = new Peer(this.identity, nodeId, {
        onMessage: (from, body) => this.received(from, body),
        onGone: (from) => {
          this.peers.delete(from.nodeId);
          this.emit('gone', from.nodeId);
        },
      });
      this.peers.set(nodeId, peer);
      this.emit('peer', nodeId);
    }
    return peer;
  }

  /** Throws if the message is too long for hypersign: that is how an original 0.1.2 dies. */
  broadcast(message) {
    const envelope = messages.broadcast(this.identity, this.dialect, message);
    this.seen.add(envelope.body.messageId);
    for (const peer of this.peers.values()) peer.send(envelope);
  }

  received(peer, envelope) {
    if (envelope.type !== 'broadcast') return;
    if (this.dialect.excludesNodes && !wellFormed(envelope)) return peer.drop();
    // The originals check inside an async function: what throws is a rejection nobody handles.
    try {
      if (!this.identity.verify(JSON.stringify(envelope.body), envelope.signature, envelope.fromNodeId)) return;
    } catch (error) {
      this.emit('warning', `unverifiable broadcast: ${error.message}`);
      return;
    }
    const { messageId, message } = envelope.body;
    if (this.seen.has(messageId)) return;
    this.seen.add(messageId);
    this.emit('message', message, envelope.fromNodeId);
    this.relay(envelope);
  }

  relay({ fromNodeId, body, signature, excludeNodeIds }) {
    if (this.loses(body.message)) return;
    const envelope = { type: 'broadcast', fromNodeId, body, signature };
    if (this.dialect.excludesNodes) envelope.excludeNodeIds = { ...excludeNodeIds, [this.identity.nodeId]: true };
    for (const peer of this.peers.values()) {
      if (this.dialect.excludesNodes && excludeNodeIds && excludeNodeIds[peer.nodeId]) continue;
      peer.send(envelope);
    }
  }

  close() {
    for (const peer of [...this.peers.values()]) peer.drop();
    return new Promise((resolve) => this.hyperswarm.destroy(resolve));
  }
}

function wellFormed({ fromNodeId, body, signature }) {
  return typeof fromNodeId === 'string' && typeof signature === 'string' &&
    body !== null && typeof body === 'object' && typeof body.messageId === 'string' &&
    body.message !== null && typeof body.message === 'object';
}

module.exports = { Swarm };
