// A secret-stream over UDX on the real packages, for scripts/bench streams: the same roles as benches/streams.rs.
//
//   node bench_stream.js serve --listen ADDR --remote ADDR              one stream, then it ends
//   node bench_stream.js load  --listen ADDR --remote ADDR --bytes N    takes N bytes from the server
//   node bench_stream.js ask   --listen ADDR --remote ADDR --count N    N requests of 1 KiB, one after the other
//
// The server's stream id is 1, the client's 2; the client initiates an in-band Noise XX handshake. A request of 8 bytes
// (u64, little endian) says how many bytes the client wants; 0: echo. Each side prints one JSON line at its end.

const SecretStream = require('@hyperswarm/secret-stream')
const UDX = require('udx-native')

const PIECE = Buffer.alloc(64 * 1024, 7)
const REQUEST = 1024

const [role, ...rest] = process.argv.slice(2)
const options = {}
for (let i = 0; i < rest.length; i += 2) options[rest[i].slice(2)] = rest[i + 1]
const [listen, remote] = [options.listen, options.remote].map((text) => {
  const [host, port] = text.split(':')
  return { host, port: Number(port) }
})
const serves = role === 'serve'

const socket = new UDX().createSocket()
socket.bind(listen.port, listen.host)
const raw = socket.udx.createStream(serves ? 1 : 2, { framed: true }) // as hyperdht does
raw.connect(socket, serves ? 2 : 1, remote.port, remote.host)
const stream = new SecretStream(!serves, raw)
stream.on('error', () => {})
stream.on('close', () => socket.close())
if (serves) {
  console.log('ready')
  serve()
} else if (role === 'load') load(Number(options.bytes))
else ask(Number(options.count))

function serve() {
  stream.once('data', (request) => {
    const wanted = Number(request.readBigUInt64LE())
    if (wanted > 0) return send(wanted)
    stream.on('data', (data) => stream.write(data))
  })
  stream.on('close', () => report({}))
}

function send(left) {
  while (left > 0) {
    const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE
    left -= piece.length
    if (!stream.write(piece)) {
      stream.once('drain', () => send(left))
      return
    }
  }
}

function load(bytes) {
  let received = 0
  const started = process.hrtime.bigint()
  stream.on('data', (data) => {
    received += data.length
    if (received < bytes) return
    const seconds = Number(process.hrtime.bigint() - started) / 1e9
    report({ bytes: received, seconds })
    stream.destroy()
  })
  stream.write(number(bytes))
}

function ask(count) {
  const times = []
  let started
  const next = () => {
    started = process.hrtime.bigint()
    stream.write(PIECE.subarray(0, REQUEST))
  }
  stream.on('data', () => {
    times.push(Number(process.hrtime.bigint() - started) / 1e3)
    if (times.length < count) return next()
    times.sort((a, b) => a - b)
    const at = (share) => times[Math.floor(times.length * share)]
    report({ median_us: at(0.5), p99_us: at(0.99) })
    stream.destroy()
  })
  stream.write(number(0))
  next()
}

function number(value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function report(figures) {
  const { user, system } = process.cpuUsage()
  console.log(JSON.stringify({ ...figures, cpu: (user + system) / 1e6 }))
}
