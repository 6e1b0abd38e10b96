#!/usr/bin/env node
// The other end of src/hyperswarm/examples/secret_stream.rs: an encrypted echo on npm's udx-native and @hyperswarm/secret-stream.
const UDX = require('udx-native')
const SecretStream = require('@hyperswarm/secret-stream')

const [ourId, theirId] = process.argv.slice(2).map(Number) // numbers of the stream: each side chooses its own
const keyPair = SecretStream.keyPair()

const socket = new UDX().createSocket()
const raw = socket.udx.createStream(ourId, {
  framed: true, // a secret stream reads and writes frames
  firewall (from, port, host) { // the first packet tells where the other side is
    if (!raw.connected) raw.connect(from, theirId, port, host)
    return false // let it in
  }
})

const stream = new SecretStream(false, raw, { keyPair }) // false: the other side begins the handshake
stream.on('data', (message) => stream.write(message)) // ordered and reliable
stream.on('message', (message) => stream.trySend(message)) // unordered, possibly lost
stream.on('end', () => stream.end())
stream.on('error', (error) => console.error(error.message))
stream.on('close', () => socket.close())

socket.bind(0, '127.0.0.1')
console.log(`${socket.address().port} ${keyPair.publicKey.toString('hex')}`)
