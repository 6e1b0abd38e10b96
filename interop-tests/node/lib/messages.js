'use strict';
// Message shapes. The order of the keys is part of what is signed.

const crypto = require('crypto');

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** 10 random characters, for message and request ids. */
function randomId() {
  return Array.from(crypto.randomBytes(10), (byte) => LETTERS[byte % LETTERS.length]).join('');
}

function topicOf(protocolVersion, swarmName) {
  return crypto.createHash('sha256').update(JSON.stringify({ protocolVersion, swarmName })).digest();
}

const lookupSwarm = (channel) => `lookup:${channel}`;
const transferSwarm = (nodeId) => `file-transfer:${nodeId}`;

/** `from` names the role of the receiver: "server" if the sender dialled. */
function initial(dialled, nodeId, protocolVersion) {
  return { type: 'initial', from: dialled ? 'server' : 'client', nodeId, protocolVersion };
}

const seeking = (fileKey) => ({ type: 'seeking', fileKey });
const providing = (fileKey, nodeId, fileInfo) => ({
  type: 'providing', fileKey, primaryNodeId: nodeId, swarmName: nodeId, fileInfo,
});
const requestToNode = (toNodeId, requestId, requestBody) => ({ type: 'requestToNode', toNodeId, requestId, requestBody });
const messageToNode = (toNodeId, messageBody) => ({ type: 'messageToNode', toNodeId, messageBody });
const received = (requestId) => ({ type: 'requestToNodeReceived', requestId });
const response = (requestId, responseBody) => ({ type: 'requestToNodeResponse', requestId, responseBody });
const failed = (requestId, errorString) => ({ type: 'requestToNodeError', requestId, errorString });
const finished = (requestId) => ({ type: 'requestToNodeFinished', requestId });
const downloadFile = (fileKey) => ({ type: 'downloadFile', fileKey });
const downloadRange = (fileKey, startByte, endByte) => ({ type: 'downloadFile', fileKey, startByte, endByte });

/** A broadcast as its originator sends it; relays change only `excludeNodeIds`. */
function broadcast(identity, dialect, message) {
  const body = { messageId: randomId(), message };
  const envelope = {
    type: 'broadcast',
    fromNodeId: identity.nodeId,
    body,
    signature: identity.sign(JSON.stringify(body)),
  };
  if (dialect.excludesNodes) envelope.excludeNodeIds = { [identity.nodeId]: true };
  return envelope;
}

/** A frame after `initial`: signed by the neighbour that sends it. */
function envelope(identity, body) {
  return { body, signature: identity.sign(JSON.stringify(body)) };
}

module.exports = {
  broadcast, downloadFile, downloadRange, envelope, failed, finished, initial, lookupSwarm, messageToNode,
  providing, randomId, received, requestToNode, response, seeking, topicOf, transferSwarm,
};
