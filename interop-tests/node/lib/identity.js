'use strict';
// Keys, node ids and signatures of the originals, in their two styles.

const crypto = require('crypto');
const hypersign = require('@hyperswarm/hypersign')();
const sodium = require('sodium-native');

const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** 0.1.2: raw keys, hypersign signatures: texts above 1000 bytes throw. */
class HypersignIdentity {
  constructor(seed) {
    const publicKey = Buffer.alloc(sodium.crypto_sign_PUBLICKEYBYTES);
    const secretKey = Buffer.alloc(sodium.crypto_sign_SECRETKEYBYTES);
    sodium.crypto_sign_seed_keypair(publicKey, secretKey, seed);
    this.keypair = { publicKey, secretKey };
    this.nodeId = publicKey.toString('hex');
  }

  sign(text) {
    return hypersign.sign(Buffer.from(text), { keypair: this.keypair }).toString('hex');
  }

  /** Throws, as the original, if the text is too long or the id is not a raw key. */
  verify(text, signature, nodeId) {
    const signable = hypersign.signable(Buffer.from(text));
    return sodium.crypto_sign_verify_detached(Buffer.from(signature, 'hex'), signable, Buffer.from(nodeId, 'hex'));
  }
}

/** 0.1.6 and 0.2.1: DER keys, plain Ed25519 over the text. */
class SpkiIdentity {
  constructor(seed) {
    this.privateKey = crypto.createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' });
    this.nodeId = crypto.createPublicKey(this.privateKey).export({ format: 'der', type: 'spki' }).toString('hex');
    this.publicKeys = new Map(); // node id -> key object: parsing DER for every frame is slow
  }

  sign(text) {
    return crypto.sign(null, Buffer.from(text), this.privateKey).toString('hex');
  }

  /** Throws, as the original, if the id is not a DER key. */
  verify(text, signature, nodeId) {
    return crypto.verify(null, Buffer.from(text), this.publicKey(nodeId), Buffer.from(signature, 'hex'));
  }

  publicKey(nodeId) {
    let key = this.publicKeys.get(nodeId);
    if (!key) {
      key = crypto.createPublicKey({ key: Buffer.from(nodeId, 'hex'), format: 'der', type: 'spki' });
      this.publicKeys.set(nodeId, key);
    }
    return key;
  }
}

/** `seed`: 32 bytes, random if absent. */
function createIdentity(dialect, seed = crypto.randomBytes(32)) {
  return dialect.signature === 'hypersign' ? new HypersignIdentity(seed) : new SpkiIdentity(seed);
}

module.exports = { createIdentity, SPKI_PREFIX };
