'use strict';
// Peers of one dialect share files over a private DHT, with the limits and failures of the originals.

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const { inLab } = require('../lib/testing');
const { DIALECTS } = require('../lib/dialect');

for (const dialect of Object.keys(DIALECTS)) {
  const sizes = dialect === '0.1.2' ? [1, 100, 378] : [1, 100, 65536, 65537, 300000, 9000000];
  for (const size of sizes) {
    test(`${dialect} loads ${size} bytes from ${dialect}`, () => inLab(async (lab) => {
      const file = lab.file('shared', size);
      await lab.daemon({ dialect }, [file]);
      const loader = await lab.daemon({ dialect });
      await loader.connected(1, 5000);
      const copy = path.join(lab.folder, 'copy');
      const result = await loader.load(file.sha1, copy, 4000);
      assert.deepStrictEqual([result.bytes, result.sha1, result.errors], [size, file.sha1, []]);
      assert.ok(fs.readFileSync(copy).equals(file.content));
    }));
  }
}

test('a 0.1.2 provider loses 379 bytes silently', () => inLab(async (lab) => {
  const file = lab.file('lost', 379);
  await lab.daemon({ dialect: '0.1.2' }, [file]);
  const loader = await lab.daemon({ dialect: '0.1.2' });
  await loader.connected(1, 5000);
  const result = await loader.load(file.sha1, path.join(lab.folder, 'copy'), 4000);
  assert.match(result.errors[0].error, /^hashes do not match: da39a3ee5e6b4b0d3255bfef95601890afd80709/); // of nothing
}));

test('a 0.1.2 provider dies of 568 bytes and lives with 567', () => inLab(async (lab) => {
  const [small, large] = [lab.file('small', 567), lab.file('large', 568)];
  const provider = await lab.peer('--dialect', '0.1.2', '--file', small.path, '--file', large.path);
  const loader = await lab.daemon({ dialect: '0.1.2' });
  await loader.connected(1, 5000);
  await loader.load(small.sha1, path.join(lab.folder, 'copy'), 4000);
  assert.strictEqual(provider.child.exitCode, null);
  loader.load(large.sha1, path.join(lab.folder, 'copy'), 4000); // never ends, as in the original
  assert.strictEqual((await provider.ended).code, 1);
  assert.match(provider.stderr, /Value size must be <= 1000/);
}));

test('0.2.1 answers bad ranges in the words of the original', () => inLab(async (lab) => {
  const file = lab.file('ranges', 1000);
  const provider = await lab.daemon({ dialect: '0.2.1' }, [file]);
  const loader = await lab.daemon({ dialect: '0.2.1' });
  await loader.connected(1, 5000);
  const requests = loader.transfer(provider.identity.nodeId);
  const error = (sha1, startByte, endByte) => new Promise((resolve) => {
    const body = { type: 'downloadFile', fileKey: { sha1 }, startByte, endByte };
    requests.ask(provider.identity.nodeId, body, { onResponse: () => resolve('data'), onFinished: () => {}, onError: resolve });
  });
  assert.strictEqual(await error(file.sha1), 'Missing or incorrect fields in request: startByte, endByte.');
  assert.strictEqual(await error(file.sha1, 5, 5), 'Expected startByte < endByte, but got: 5 5');
  assert.strictEqual(await error(file.sha1, 0, 20000001), 'Too many bytes in single download request: 20000001 > 20000000');
  assert.strictEqual(await error('0'.repeat(40), 0, 5), 'Unable to find file.');
  assert.strictEqual(await error(file.sha1, 0, 5), 'data');
}));

test('a broadcast reaches a peer two hops away once', () => inLab(async (lab) => {
  for (const dialect of ['0.1.6', '0.2.1']) {
    const all = [];
    for (let i = 0; i < 3; i++) all.push(await lab.daemon({ dialect, channels: [`line ${dialect}`] }));
    const swarms = all.map((daemon) => daemon.channels[0]);
    await all[2].connected(2, 5000);
    const heard = [0, 0, 0];
    swarms.forEach((swarm, i) => swarm.on('message', () => heard[i]++));
    swarms[0].broadcast({ type: 'something', n: 1 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.deepStrictEqual(heard, [0, 1, 1]);
  }
}));
