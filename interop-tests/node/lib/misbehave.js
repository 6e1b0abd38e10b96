'use strict';
// Providers no one should have to meet. Each wraps the honest output { data(block), end() } of one request.

/** Every kind of nonsense that can be written where a frame is expected, one after the other. */
const GARBAGE = [
  Buffer.from('12#not json at all'),
  Buffer.from('7xyz#{"a":1}'),
  Buffer.from('99999999999999999999#{"body":'),
  Buffer.from([0xff, 0xfe, 0x00, 0x80, 0x23, 0x23, 0x23, 0x0a]),
  Buffer.from('4#null2#{}5#false'),
  Buffer.from('40#{"body":{"type":"ready"},"signature":42}'),
];

const GARBAGE_RESPONSES = [
  {},
  { data_b64: 42 },
  { data_b64: '!!! not base64 !!!' },
  { data_b64: { $: 'object' } },
  'a string',
  [],
];

const misbehaviours = {
  /** The process is gone after the first block: no FIN of the protocol, only closed sockets. */
  die: (honest, { report }) => ({
    data: (block) => {
      honest.data(block.subarray(0, Math.max(1, block.length >> 1)));
      report('dying', {});
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 5);
    },
    end: () => {},
  }),

  /** Right length, one wrong bit in each block. */
  lie: (honest) => ({
    data: (block) => {
      const wrong = Buffer.from(block);
      wrong[wrong.length >> 1] ^= 1;
      honest.data(wrong);
    },
    end: honest.end,
  }),

  /** Nothing after the first half block, while keep-alives go on. */
  stall: (honest) => {
    let sent = false;
    return {
      data: (block) => {
        if (!sent) honest.data(block.subarray(0, block.length >> 1));
        sent = true;
      },
      end: () => {},
    };
  },

  /** Well-signed nonsense, then raw nonsense on the wire. */
  garbage: (honest, { swarm, reply }) => ({
    data: () => {},
    end: () => {
      for (const body of GARBAGE_RESPONSES) reply.respond(body);
      swarm.broadcast({ type: 'messageToNode' });
      swarm.broadcast({ type: 'requestToNode', toNodeId: 7, requestId: null });
      for (const peer of swarm.peers.values()) {
        for (const link of Object.values(peer.links)) if (link) for (const bytes of GARBAGE) link.socket.write(bytes);
      }
      honest.end();
    },
  }),

  /** One byte less than asked. */
  short: (honest) => {
    let last = null;
    return {
      data: (block) => {
        if (last) honest.data(last);
        last = block;
      },
      end: () => {
        if (last.length > 1) honest.data(last.subarray(0, last.length - 1));
        honest.end();
      },
    };
  },

  /** The first block twice: more than asked, and not at its place. */
  long: (honest) => {
    let sent = false;
    return {
      data: (block) => {
        if (!sent) honest.data(block);
        sent = true;
        honest.data(block);
      },
      end: honest.end,
    };
  },
};

module.exports = { misbehaviours };
