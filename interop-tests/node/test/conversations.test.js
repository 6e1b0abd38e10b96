'use strict';
// What two of these peers say to each other has the shapes of the captured conversations, message by message.

const assert = require('node:assert');
const path = require('node:path');
const test = require('node:test');
const { inLab, vectors } = require('../lib/testing');
const JsonSocket = require('json-socket');

/** Keys in order and kinds of values; node ids by their length, signatures and data as strings. */
function shape(value, key = '') {
  if (key === 'data_b64') return 'data';
  if (key === 'excludeNodeIds') return [...new Set(Object.keys(value).map((id) => `id of ${id.length}`))];
  if (typeof value === 'string') return /^(302a|[0-9a-f]{64}$)/.test(value) ? `id of ${value.length}` : ['type', 'from', 'protocolVersion'].includes(key) ? value : 'string';
  if (value === null || typeof value !== 'object') return typeof value;
  return Object.entries(value).map(([name, inner]) => [name, shape(inner, name)]);
}

const shapes = (list) => [...new Set(list.map((message) => JSON.stringify(shape(message))))].sort();

/** Messages between daemons in a captured conversation, those of the HTTP interface left out. */
function captured(name, nodes) {
  const conversation = vectors(name);
  return nodes.flatMap((node) => {
    const http = new Set(conversation[node].filter((entry) => entry.proto === 'http').map((entry) => entry.sock));
    return conversation[node].filter((entry) => entry.ev === 'send' && !http.has(entry.sock)).map((entry) => entry.msg);
  });
}

/** Everything two daemons of a dialect send while one loads a file from the other, and then idle for a keep-alive. */
async function spoken(name, size) {
  const sent = [];
  const original = JsonSocket.prototype.sendMessage;
  JsonSocket.prototype.sendMessage = function (message, callback) {
    sent.push(JSON.parse(JSON.stringify(message)));
    return original.call(this, message, callback);
  };
  try {
    await inLab(async (lab) => {
      const file = lab.file('conversation', size);
      await lab.daemon({ dialect: name }, [file]);
      const loader = await lab.daemon({ dialect: name });
      await loader.connected(1, 5000);
      const result = await loader.load(file.sha1, path.join(lab.folder, 'copy'), 4000);
      assert.strictEqual(result.sha1, file.sha1);
      await new Promise((resolve) => setTimeout(resolve, 5300));
    });
  } finally {
    JsonSocket.prototype.sendMessage = original;
  }
  return sent;
}

test('0.2.1 speaks as captured', async () => {
  assert.deepStrictEqual(shapes(await spoken('0.2.1', 200000)), shapes(captured('conversation_0.2.1.json', ['node_a', 'node_b'])));
});

test('0.1.2 speaks as captured', async () => {
  assert.deepStrictEqual(shapes(await spoken('0.1.2', 300)), shapes(captured('conversation_0.1.2.json', ['node_a', 'node_b'])));
});

test('0.1.6 speaks as captured', async () => {
  const name = 'conversation_mixed_0.1.2_0.1.6.json';
  const nodes = Object.keys(vectors(name)).filter((node) => node.endsWith('_016'));
  const real = captured(name, nodes).filter((message) => message.success !== false); // it also meets a 0.1.2
  assert.deepStrictEqual(shapes(await spoken('0.1.6', 200000)), shapes(real));
});
