'use strict';
// Finds and downloads as the originals do, and compares the hash as their Python client does.

const crypto = require('crypto');
const fs = require('fs');
const messages = require('./messages');

const CHUNK_BYTES = 4000000;
const SILENCE_MS = 10000;

/** The providers found so far: an async iterator that ends `timeout` ms after the seeking. */
async function * find(channels, sha1, timeout = 4000) {
  const results = [];
  let wake = () => {};
  let ended = false;
  const listener = (message) => {
    if (message.type !== 'providing' || !message.fileKey || message.fileKey.sha1 !== sha1) return;
    results.push({ nodeId: message.primaryNodeId, swarmName: message.swarmName, fileInfo: message.fileInfo });
    wake();
  };
  const timer = setTimeout(() => {
    ended = true;
    wake();
  }, timeout);
  try {
    for (const swarm of channels) {
      swarm.on('message', listener);
      swarm.broadcast(messages.seeking({ sha1 }));
    }
    while (!ended || results.length) {
      if (results.length) yield results.shift();
      else await new Promise((resolve) => { wake = resolve; });
    }
  } finally {
    clearTimeout(timer);
    for (const swarm of channels) swarm.off('message', listener);
  }
}

/** Downloads from one provider into `dest`; resolves to { bytes, sha1 } or throws. */
async function download(dialect, requests, found, sha1, dest) {
  const file = fs.openSync(dest, 'w');
  const hash = crypto.createHash('sha1');
  let bytes = 0;
  const sink = (block) => {
    fs.writeSync(file, block);
    hash.update(block);
    bytes += block.length;
  };
  try {
    if (!dialect.ranges) {
      await receive(requests, found.nodeId, messages.downloadFile({ sha1 }), sink, null);
    } else {
      for (let start = 0; start < found.fileInfo.size; start += CHUNK_BYTES) {
        const end = Math.min(start + CHUNK_BYTES, found.fileInfo.size);
        await receive(requests, found.nodeId, messages.downloadRange({ sha1 }, start, end), sink, end - start);
      }
    }
  } finally {
    fs.closeSync(file);
  }
  return { bytes, sha1: hash.digest('hex') };
}

/** One request. 0.2.1 (`expected` is a number) minds silence, form and count; 0.1.x waits for Finished for ever. */
function receive(requests, nodeId, body, sink, expected) {
  return new Promise((resolve, reject) => {
    let count = 0;
    let last = Date.now();
    const strict = expected !== null;
    const silence = strict ? setInterval(() => {
      if (Date.now() - last > SILENCE_MS) end(new Error('no response for 10 s'));
    }, 1000) : null;
    const forget = requests.ask(nodeId, body, {
      onResponse: (response) => {
        last = Date.now();
        if (!response || typeof response.data_b64 !== 'string') return end(new Error('response without data_b64'));
        const block = Buffer.from(response.data_b64, 'base64');
        count += block.length;
        sink(block);
      },
      onError: (text) => end(new Error(text)),
      onFinished: () => end(strict && count !== expected ? new Error(`unexpected number of bytes: ${count} <> ${expected}`) : null),
    });
    function end(error) {
      clearInterval(silence);
      forget();
      if (error) reject(error);
      else resolve();
    }
  });
}

module.exports = { find, download };
