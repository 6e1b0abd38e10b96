'use strict';
// Much data through a stream, compared by hash on both sides.

const { createHash } = require('crypto');

const CHUNK = 65536;

// 32-bit xorshift words, little endian, in chunks: `pattern` of stream_peers.rs.
function* pattern(length) {
  let state = 1;
  while (length > 0) {
    const chunk = Buffer.allocUnsafe(CHUNK);
    for (let at = 0; at < CHUNK; at += 4) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      chunk.writeUInt32LE(state >>> 0, at);
    }
    yield chunk.subarray(0, length);
    length -= CHUNK;
  }
}

// Writes so many bytes, reports their hash as `sent`, ends.
function send(stream, bytes, report) {
  const hash = createHash('sha1');
  const chunks = pattern(bytes);
  const more = () => {
    for (let next = chunks.next(); !next.done; next = chunks.next()) {
      hash.update(next.value);
      if (!stream.write(next.value)) return stream.once('drain', more);
    }
    report('sent', { bytes, sha1: hash.digest('hex') });
    stream.end();
  };
  more();
}

// Reads to the end, reports the hash (and in how many pieces it came) as `received`, calls `then`.
function receive(stream, report, then) {
  const hash = createHash('sha1');
  let bytes = 0;
  let pieces = 0;
  stream.on('data', (data) => {
    hash.update(data);
    bytes += data.length;
    pieces++;
  });
  stream.on('end', () => {
    report('received', { bytes, pieces, sha1: hash.digest('hex') });
    then();
  });
}

// The actions `send`, `receive` and `both` of a peer.
module.exports = (stream, bytes, report) => ({
  send: () => {
    stream.resume();
    send(stream, bytes, report);
  },
  receive: () => receive(stream, report, () => stream.end()),
  both: () => {
    receive(stream, report, () => {});
    send(stream, bytes, report);
  },
});
