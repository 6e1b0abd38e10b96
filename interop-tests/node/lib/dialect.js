'use strict';
// What tells the three daemons of 2020 apart on the wire.

const DIALECTS = {
  '0.1.2': {
    name: '0.1.2',
    protocol: 'kachery-p2p-3',
    signature: 'hypersign', // over hypersign's signable, at most 1000 bytes of text
    excludesNodes: false, // relays to everybody, also back to where it came from
    ranges: false, // a request is for the whole file, and nothing reports an error
  },
  '0.1.6': {
    name: '0.1.6',
    protocol: 'kachery-p2p-3',
    signature: 'spki', // plain Ed25519, node ids are DER public keys
    excludesNodes: false,
    ranges: false,
  },
  '0.2.1': {
    name: '0.2.1',
    protocol: 'kachery-p2p-daemon-0.2',
    signature: 'spki',
    excludesNodes: true,
    ranges: true,
  },
};

function dialect(name) {
  const found = DIALECTS[name];
  if (!found) throw new Error(`unknown dialect ${name}: use ${Object.keys(DIALECTS).join(', ')}`);
  return found;
}

module.exports = { dialect, DIALECTS };
