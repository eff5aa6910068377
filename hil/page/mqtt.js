// A subscriber of MQTT 3.1.1 (OASIS 2014) over a websocket: QoS 0 and 1, keep-alive, reconnects. It publishes nothing.

const CONNECT = 1, CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBSCRIBE = 8, SUBACK = 9, PINGREQ = 12;
const KEEPALIVE_S = 20, BACKOFF_MAX_MS = 8000, PACKET_BYTES_MAX = 1 << 20;
const text = new TextEncoder(), words = new TextDecoder();

function field(string) {
  const bytes = text.encode(string);
  return [bytes.length >> 8, bytes.length & 255, ...bytes];
}

function packet(type, flags, body) {
  const length = [];
  let left = body.length;
  do {
    length.push((left & 127) | (left > 127 ? 128 : 0));
    left >>= 7;
  } while (left);
  return new Uint8Array([(type << 4) | flags, ...length, ...body]);
}

// The first whole packet in `bytes`: its type, flags and body, and how many bytes it takes; null if it is not whole yet.
export function split(bytes) {
  let length = 0, shift = 0, at = 1;
  for (;;) {
    if (at >= bytes.length) return null;
    if (shift > 21) throw new Error("malformed length");
    const next = bytes[at++];
    length |= (next & 127) << shift;
    shift += 7;
    if (!(next & 128)) break;
  }
  if (length > PACKET_BYTES_MAX) throw new Error(`packet of ${length} bytes; allowed: ${PACKET_BYTES_MAX}`);
  if (bytes.length < at + length) return null;
  return { type: bytes[0] >> 4, flags: bytes[0] & 15, body: bytes.subarray(at, at + length), size: at + length };
}

export class Subscriber {
  // `url`: the broker's websocket; `filter`: what to subscribe to. `onMessage(topic, text)`, `onState(connected)`.
  constructor(url, filter, onMessage, onState) {
    Object.assign(this, { url, filter, onMessage, onState, wait: 500 });
    this.connect();
  }

  connect() {
    this.bytes = new Uint8Array(0);
    this.heard = performance.now();
    const socket = this.socket = new WebSocket(this.url, ["mqtt"]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      const id = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
      socket.send(packet(CONNECT, 0, [...field("MQTT"), 4, 2, 0, KEEPALIVE_S, ...field(id)]));
      this.clock = setInterval(() => this.tick(), KEEPALIVE_S * 500);
    };
    socket.onmessage = event => this.take(new Uint8Array(event.data));
    socket.onclose = () => {
      clearInterval(this.clock);
      this.onState(false);
      setTimeout(() => this.connect(), this.wait * (0.5 + Math.random() / 2));
      this.wait = Math.min(2 * this.wait, BACKOFF_MAX_MS);
    };
  }

  tick() {
    if (performance.now() - this.heard > KEEPALIVE_S * 1500) this.socket.close();
    else this.socket.send(packet(PINGREQ, 0, []));
  }

  take(chunk) {
    this.heard = performance.now();
    const joined = new Uint8Array(this.bytes.length + chunk.length);
    joined.set(this.bytes);
    joined.set(chunk, this.bytes.length);
    this.bytes = joined;
    try {
      for (let next; (next = split(this.bytes)); this.bytes = this.bytes.subarray(next.size)) this.handle(next);
    } catch (error) {
      console.warn(`mqtt: ${error.message}`);
      this.socket.close();
    }
  }

  handle({ type, flags, body }) {
    if (type === CONNACK) {
      if (body[1] !== 0) throw new Error(`refused with code ${body[1]}`);
      this.wait = 500;
      this.onState(true);
      this.socket.send(packet(SUBSCRIBE, 2, [0, 1, ...field(this.filter), 1]));
    } else if (type === SUBACK) {
      if (body[2] === 128) throw new Error("subscription refused");
    } else if (type === PUBLISH) {
      const qos = (flags >> 1) & 3, end = 2 + (body[0] << 8 | body[1]);
      if (qos === 1) this.socket.send(packet(PUBACK, 0, [body[end], body[end + 1]]));
      this.onMessage(words.decode(body.subarray(2, end)), words.decode(body.subarray(end + (qos ? 2 : 0))));
    }
  }
}
