'use strict';
// One stranger in a channel of the 0.2 dialect: one connection for each victim, and behind it as many identities as it likes, which claim to
// have a file and then serve it as BEHAVIOURS say.

const crypto = require('crypto');
const { dialect } = require('./dialect');
const { createIdentity } = require('./identity');
const messages = require('./messages');
const { openNode, Ports } = require('./ports');
const { Requests } = require('./requests');
const { Swarm } = require('./swarm');

const TRICKLE_MS = 4000;
const SLOW_MS = 200;
const SLOW_PIECE = 65536;
const BLOCK = 131072;
const JUNK = crypto.randomBytes(BLOCK).toString('base64');

/** How an identity answers a request: `(range, reply, state)`; state is the identity's own. */
const BEHAVIOURS = {
  /** One byte at once, and one every 4 s, for as long as anybody waits: never silent for the 10 s that count. */
  trickle(range, reply) {
    const one = () => reply.respond({ data_b64: 'AA==' });
    one();
    setInterval(one, TRICKLE_MS).unref();
  },

  /** Says that it heard the request, and nothing more. */
  silent() {},

  /** Wrong bytes of the right length, as fast as it can. */
  junk({ start, end }, reply) {
    for (let left = end - start; left > 0; left -= BLOCK) {
      reply.respond({ data_b64: left >= BLOCK ? JUNK : crypto.randomBytes(left).toString('base64') });
    }
    reply.finish();
  },

  /** Junk the first time, and a trickle from whoever asks again for what it was given. */
  'junk-then-trickle'(range, reply, state) {
    const again = state.served.some(({ start, end }) => range.start < end && start < range.end);
    state.served.push(range);
    BEHAVIOURS[again ? 'trickle' : 'junk'](range, reply, state);
  },

  /** Junk the first time, and 320 KB/s for whoever asks again for what it was given. */
  'junk-then-slow'(range, reply, state) {
    const again = state.served.some(({ start, end }) => range.start < end && start < range.end);
    state.served.push(range);
    if (!again) return BEHAVIOURS.junk(range, reply, state);
    let left = range.end - range.start;
    const timer = setInterval(() => {
      const piece = Math.min(left, SLOW_PIECE);
      reply.respond({ data_b64: crypto.randomBytes(piece).toString('base64') });
      left -= piece;
      if (left > 0) return;
      clearInterval(timer);
      reply.finish();
    }, SLOW_MS);
  },

  /** Nobody is there: the key is made up, no swarm is joined. */
  nobody: null,
};

class Stranger {
  /** `report(event, fields)`. */
  constructor({ bootstrap, channel, address }, report) {
    Object.assign(this, { bootstrap, address, report });
    this.dialect = dialect('0.2.1');
    this.identity = createIdentity(this.dialect);
    this.channelName = channel;
    this.claims = []; // { identity, size, behaviour, delay, served }
  }

  /** Joins the channel and is there for `sha1`: claims must have been made before. */
  async enter(sha1) {
    this.node = await openNode(this.bootstrap, this.address);
    await Promise.all(this.claims.filter((claim) => BEHAVIOURS[claim.behaviour]).map((claim) => this.serve(claim)));
    this.channel = this.swarm(this.identity, messages.lookupSwarm(this.channelName), true);
    this.channel.on('peer', (nodeId) => this.report('met', { nodeId }));
    this.channel.on('message', (message) => {
      if (message.type === 'seeking' && message.fileKey && message.fileKey.sha1 === sha1) this.answer(sha1);
    });
    await this.channel.joined();
  }

  swarm(identity, name, dial) {
    return new Swarm({ dialect: this.dialect, identity, name, network: new Ports(this.node, { address: this.address, dial }) });
  }

  /** `count` identities that say the file has `size` bytes, each `step` ms after the one before. */
  claim(size, count, behaviour, step) {
    if (!(behaviour in BEHAVIOURS)) throw new Error(`unknown behaviour ${behaviour}: use ${Object.keys(BEHAVIOURS).join(', ')}`);
    for (let i = 0; i < count; i++) this.claims.push({ identity: createIdentity(this.dialect), size, behaviour, delay: i * step, served: [] });
  }

  serve(claim) {
    const swarm = this.swarm(claim.identity, messages.transferSwarm(claim.identity.nodeId), false);
    new Requests(swarm, (from, { startByte, endByte }, reply) => {
      this.report('asked', { nodeId: claim.identity.nodeId, from, startByte, endByte });
      BEHAVIOURS[claim.behaviour]({ start: startByte, end: endByte }, reply, claim);
    });
    return swarm.joined();
  }

  answer(sha1) {
    for (const { identity, size, delay } of this.claims) {
      const send = () => {
        const envelope = messages.broadcast(identity, this.dialect, messages.providing({ sha1 }, identity.nodeId, { size, sha1 }));
        for (const peer of this.channel.peers.values()) peer.send(envelope);
      };
      if (delay) setTimeout(send, delay);
      else send();
    }
    this.report('claimed', { identities: this.claims.length });
  }
}

module.exports = { BEHAVIOURS, Stranger };
