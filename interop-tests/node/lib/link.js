'use strict';
// One raw connection of an attacker to a daemon's port, opened again when it is closed: `initial`, `ready`, and then a `keepAlive` in time.

const JsonSocket = require('json-socket');
const net = require('net');
const { dialect } = require('./dialect');
const { createIdentity } = require('./identity');
const messages = require('./messages');

const KEEP_ALIVE_MS = 3000;
const AGAIN_MS = 1000;
const SETTLE_MS = 3000; // a daemon without descriptors does not even accept

/** Frames of the identity itself. */
function honestFrames(identity) {
  return {
    identity,
    nodeId: identity.nodeId,
    ready: messages.envelope(identity, { type: 'ready' }),
    keepAlive: messages.envelope(identity, { type: 'keepAlive' }),
  };
}

class Link {
  /**
   * `to`: { host, port }; `address`: from where; `protocol`: the version to name; `frames`: { nodeId, ready, keepAlive }, those of a fresh
   * identity if absent; `onReady(json, frames)`, `onFrame(frame)`; `reads`: false to leave what comes in the socket.
   */
  constructor({ to, address, protocol, frames = honestFrames(createIdentity(dialect('0.2.1'))), onReady, onFrame, reads = true }) {
    Object.assign(this, { to, address, protocol, frames, onReady, onFrame, reads });
    this.opened = 0; // connections that were accepted
    this.held = false; // whether there is one now
    this.settled = new Promise((resolve) => { this.settle = resolve; }); // the first was answered or closed
    setTimeout(this.settle, SETTLE_MS).unref();
    this.open();
  }

  open() {
    const socket = net.connect({ ...this.to, localAddress: this.address });
    const json = new JsonSocket(socket);
    let timer;
    socket.on('error', () => {});
    socket.on('connect', () => {
      this.opened++;
      this.held = true;
      json.sendMessage(messages.initial(true, this.frames.nodeId, this.protocol));
      json.sendMessage(this.frames.ready);
      timer = setInterval(() => json.sendMessage(this.frames.keepAlive), KEEP_ALIVE_MS);
      if (!this.reads) {
        socket.pause();
        this.settle();
      }
      if (this.onReady) this.onReady(json, this.frames);
    });
    socket.on('message', (frame) => {
      this.settle();
      if (this.onFrame) this.onFrame(frame);
    });
    socket.on('close', () => {
      clearInterval(timer);
      this.held = false;
      this.settle();
      setTimeout(() => this.open(), AGAIN_MS);
    });
  }
}

module.exports = { honestFrames, Link };
