'use strict';
// Requests inside a transfer swarm: asked again until Received, answered once.

const messages = require('./messages');

const REPEAT_MS = 500;
const GIVE_UP_MS = 10000;

class Requests {
  /** `answer(fromNodeId, requestBody, reply)` serves requests to this node; reply has respond, fail, finish. */
  constructor(swarm, answer) {
    this.swarm = swarm;
    this.answer = answer;
    this.pending = new Map(); // request id -> handlers of what we asked
    this.served = new Set(); // request ids answered
    swarm.on('message', (message, fromNodeId) => this.handle(message, fromNodeId));
  }

  /** `handlers`: onResponse(body), onFinished(), onError(text). Returns a function that forgets the request. */
  ask(toNodeId, requestBody, handlers) {
    const requestId = messages.randomId();
    const started = Date.now();
    const send = () => this.swarm.broadcast(messages.requestToNode(toNodeId, requestId, requestBody));
    const repeat = setInterval(() => {
      if (Date.now() - started > GIVE_UP_MS) {
        forget();
        handlers.onError('no requestToNodeReceived within 10 s');
      } else {
        send();
      }
    }, REPEAT_MS);
    const forget = () => {
      clearInterval(repeat);
      this.pending.delete(requestId);
    };
    this.pending.set(requestId, { toNodeId, handlers, forget, received: () => clearInterval(repeat) });
    send();
    return forget;
  }

  handle(message, fromNodeId) {
    if (message.type === 'requestToNode' && message.toNodeId === this.swarm.identity.nodeId) {
      this.serve(message, fromNodeId);
    } else if (message.type === 'messageToNode' && message.toNodeId === this.swarm.identity.nodeId) {
      this.reply(message.messageBody, fromNodeId);
    }
  }

  serve({ requestId, requestBody }, fromNodeId) {
    if (this.served.has(requestId)) return;
    this.served.add(requestId);
    const send = (body) => this.swarm.broadcast(messages.messageToNode(fromNodeId, body));
    send(messages.received(requestId));
    this.answer(fromNodeId, requestBody, {
      respond: (body) => send(messages.response(requestId, body)),
      fail: (text) => send(messages.failed(requestId, text)),
      finish: () => send(messages.finished(requestId)),
    });
  }

  reply(body, fromNodeId) {
    const request = body && this.pending.get(body.requestId);
    if (!request || request.toNodeId !== fromNodeId) return;
    if (body.type === 'requestToNodeReceived') {
      request.received();
    } else if (body.type === 'requestToNodeResponse') {
      request.handlers.onResponse(body.responseBody);
    } else if (body.type === 'requestToNodeError') {
      request.forget();
      request.handlers.onError(body.errorString);
    } else if (body.type === 'requestToNodeFinished') {
      request.forget();
      request.handlers.onFinished();
    }
  }
}

module.exports = { Requests };
