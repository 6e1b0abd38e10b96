'use strict';
// Each misbehaving provider fails a 0.2.1 loader in the way the original would report.

const assert = require('node:assert');
const path = require('node:path');
const test = require('node:test');
const { inLab } = require('../lib/testing');
const { misbehaviours } = require('../lib/misbehave');

const EXPECTED = {
  die: /no response/,
  lie: /hashes do not match/,
  stall: /no response for 10 s/,
  garbage: /response without data_b64/,
  short: /unexpected number of bytes: 299999 <> 300000/,
  long: /unexpected number of bytes: 365536 <> 300000/,
};

for (const kind of Object.keys(misbehaviours)) {
  test(`a provider that is to ${kind} does not deliver`, () => inLab(async (lab) => {
    const file = lab.file('betrayed', 300000);
    const provider = await lab.peer('--dialect', '0.2.1', '--file', file.path, '--misbehave', kind);
    const loader = await lab.daemon({ dialect: '0.2.1' });
    await loader.connected(1, 5000);
    for await (const found of loader.find(file.sha1, 4000)) {
      const copy = path.join(lab.folder, 'copy');
      const download = loader.downloadFrom(found, file.sha1, copy);
      await assert.rejects(download, EXPECTED[kind]);
      if (kind === 'die') assert.strictEqual((await provider.ended).signal, 'SIGKILL');
      break;
    }
  }));
}
