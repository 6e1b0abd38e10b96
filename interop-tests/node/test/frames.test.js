'use strict';
// The peers' bytes against the golden data of the original programs.

const assert = require('node:assert');
const test = require('node:test');
const { vectors } = require('../lib/testing');
const JsonSocket = require('json-socket');
const { dialect } = require('../lib/dialect');
const { createIdentity } = require('../lib/identity');
const messages = require('../lib/messages');

const STYLES = { hypersign: '0.1.2', 'raw-ed25519': '0.2.1' };
const frameOf = (message) => Buffer.from(JsonSocket.prototype._formatMessageData.call({ _opts: { delimeter: '#' } }, message));

test('a topic is the hash of the protocol and the swarm name', () => {
  for (const { protocolVersion, swarmName, topic } of vectors('topics.json').vectors) {
    assert.strictEqual(messages.topicOf(protocolVersion, swarmName).toString('hex'), topic);
  }
});

test('frames are those of the original writer', () => {
  for (const { message_json: json, frame_hex: frame } of vectors('json_socket.json').frames) {
    assert.strictEqual(frameOf(JSON.parse(json)).toString('hex'), frame);
  }
});

test('signed frames are byte for byte those of the originals', () => {
  const { seed, vectors: envelopes } = vectors('envelopes.json');
  for (const vector of envelopes) {
    const identity = createIdentity(dialect(STYLES[vector.style]), Buffer.from(seed, 'hex'));
    const body = JSON.parse(Buffer.from(vector.signed_text_hex, 'hex').toString());
    assert.strictEqual(identity.nodeId, vector.nodeId);
    assert.strictEqual(frameOf(messages.envelope(identity, body)).toString('hex'), vector.frame_hex);
    assert.ok(identity.verify(JSON.stringify(body), vector.signature, vector.nodeId));
  }
});

test('a text of 1000 bytes can be signed by 0.1.2, one of 1001 throws', () => {
  const identity = createIdentity(dialect('0.1.2'));
  assert.ok(identity.sign('x'.repeat(1000)));
  assert.throws(() => identity.sign('x'.repeat(1001)), /Value size must be <= 1000/);
});

test('the other style of node id makes verification throw, as in the captured conversation', () => {
  const old = createIdentity(dialect('0.1.2'));
  const later = createIdentity(dialect('0.1.6'));
  assert.throws(() => old.verify('{}', later.sign('{}'), later.nodeId), /crypto_sign_PUBLICKEYBYTES/);
  assert.throws(() => later.verify('{}', old.sign('{}'), old.nodeId));
});
