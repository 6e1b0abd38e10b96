'use strict';
// Offers files: answers seeking in the channels and downloadFile in the transfer swarm of this node.

const crypto = require('crypto');
const fs = require('fs');
const { execFile } = require('child_process');
const messages = require('./messages');
const { misbehaviours } = require('./misbehave');

const READ_BYTES = 65536;
const MAX_RANGE = 20000000;

class Provider {
  /**
   * `report(event, fields)`; `misbehave`: a key of misbehaviours, or null; `delay`: ms before a seeking is answered;
   * `rate`: bytes per second at most, all requests together; `price`: start a process for each request, as the originals do.
   */
  constructor({ dialect, identity, misbehave = null, delay = 0, rate = Infinity, price = false, report = () => {} }) {
    Object.assign(this, { dialect, identity, delay, rate, price, report });
    this.free = 0; // ms of the clock at which the next block may leave
    this.misbehave = misbehave && misbehaviours[misbehave];
    this.files = new Map(); // sha1 -> { path, size }
  }

  /** Hashes a file and offers it from now on. Resolves to its sha1. */
  async add(path) {
    const hash = crypto.createHash('sha1');
    let size = 0;
    for await (const block of fs.createReadStream(path)) {
      hash.update(block);
      size += block.length;
    }
    const sha1 = hash.digest('hex');
    this.files.set(sha1, { path, size });
    return sha1;
  }

  /** Handler for the messages of a channel. */
  seeking(swarm, message) {
    if (message.type !== 'seeking' || !message.fileKey) return;
    const { sha1 } = message.fileKey;
    const file = this.files.get(sha1);
    if (!file) return;
    const answer = () => swarm.broadcast(messages.providing({ sha1 }, this.identity.nodeId, { size: file.size, sha1 }));
    if (this.delay) setTimeout(answer, this.delay);
    else answer();
  }

  /** Handler for requests of the transfer swarm. */
  answer(swarm, fromNodeId, request, reply) {
    if (!request || request.type !== 'downloadFile') return;
    const file = this.files.get(request.fileKey && request.fileKey.sha1);
    const range = this.dialect.ranges ? this.range(request, file, reply) : file && { start: 0, end: file.size };
    if (!range) return;
    this.report('serving', { to: fromNodeId, sha1: request.fileKey.sha1, ...range });
    this.send(swarm, file, range, reply);
  }

  /** The original's checks in its order and words. */
  range({ startByte, endByte }, file, reply) {
    const bad = (text) => {
      reply.fail(text);
      return null;
    };
    if (typeof startByte !== 'number' || typeof endByte !== 'number') {
      return bad('Missing or incorrect fields in request: startByte, endByte.');
    }
    if (endByte <= startByte) return bad(`Expected startByte < endByte, but got: ${startByte} ${endByte}`);
    if (endByte - startByte > MAX_RANGE) {
      return bad(`Too many bytes in single download request: ${endByte - startByte} > ${MAX_RANGE}`);
    }
    return file ? { start: startByte, end: endByte } : bad('Unable to find file.');
  }

  /** One message per disk read, all queued at once unless there is a rate: the originals have no back-pressure. */
  async send(swarm, file, { start, end }, reply) {
    if (this.price) await oneProcess();
    if (end === start) return reply.finish(); // a whole file that is empty
    const honest = {
      data: (block) => reply.respond({ data_b64: block.toString('base64') }),
      end: () => reply.finish(),
    };
    const output = this.misbehave ? this.misbehave(honest, { swarm, reply, report: this.report }) : honest;
    for await (const block of fs.createReadStream(file.path, { start, end: end - 1, highWaterMark: READ_BYTES })) {
      if (this.rate !== Infinity) await this.turn(block.length);
      output.data(block);
    }
    output.end();
  }

  /** Resolves when so many bytes may leave. */
  async turn(bytes) {
    const now = Date.now();
    this.free = Math.max(this.free, now) + bytes * 1000 / this.rate;
    await new Promise((resolve) => setTimeout(resolve, this.free - now));
  }
}

/** The originals ask `kachery-info` for the path of a file, for each request; an empty Node.js process costs about as much. */
function oneProcess() {
  return new Promise((resolve) => execFile(process.execPath, ['-e', '0'], () => resolve()));
}

module.exports = { Provider, READ_BYTES };
