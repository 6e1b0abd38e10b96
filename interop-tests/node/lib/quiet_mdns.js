'use strict';
// hyperswarm 2.14 has no switch for multicast DNS. Loaded before it, this replaces the module by one that says nothing.

const { EventEmitter } = require('events');

function quiet() {
  const mdns = new EventEmitter();
  mdns.query = mdns.response = mdns.respond = mdns.update = () => {};
  mdns.destroy = (callback) => { if (callback) process.nextTick(callback); };
  return mdns;
}

function silenceMdns() {
  const id = require.resolve('multicast-dns', { paths: [require.resolve('@hyperswarm/discovery')] });
  require(id);
  require.cache[id].exports = quiet;
}

module.exports = { silenceMdns };
