/**
 * A worker that answers a posted file with its checksum in base64, reading it in chunks.
 *
 * WebCrypto needs the whole message in memory, and a video may be too large for that. Sources: FIPS 180-4, section 6.2;
 * Amazon S3 User Guide, "Checking object integrity" (CRC-64/NVME).
 */

const CHUNK = 4 * 1024 * 1024;
const PRIMES = firstPrimes(64);
const POLYNOMIAL = 0x9a6c9329ac4bc9b5n; // reflected
const ROUND = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));

/** A SHA-256 of a message that arrives in chunks. */
export class Sha256 {
  constructor() {
    this.state = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
    this.schedule = new Int32Array(64);
    this.block = new Uint8Array(64);
    this.filled = 0;
    this.length = 0;
  }

  update(bytes) {
    this.length += bytes.length;
    let at = 0;
    if (this.filled > 0) {
      at = Math.min(64 - this.filled, bytes.length);
      this.block.set(bytes.subarray(0, at), this.filled);
      this.filled += at;
      if (this.filled < 64) return;
      this.#compress(this.block, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.block.set(bytes.subarray(at));
    this.filled = bytes.length - at;
  }

  digest() {
    const { length } = this;
    const padding = new Uint8Array(((this.filled < 56 ? 56 : 120) - this.filled) + 8);
    padding[0] = 0x80;
    new DataView(padding.buffer).setBigUint64(padding.length - 8, BigInt(length) * 8n);
    this.update(padding);
    const digest = new DataView(new ArrayBuffer(32));
    this.state.forEach((word, index) => digest.setUint32(index * 4, word));
    return new Uint8Array(digest.buffer);
  }

  #compress(bytes, at) {
    const { schedule: w, state } = this;
    for (let i = 0; i < 16; i += 1, at += 4)
      w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    for (let i = 16; i < 64; i += 1) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let a = state[0], b = state[1], c = state[2], d = state[3];
    let e = state[4], f = state[5], g = state[6], h = state[7];
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

/** A CRC-64/NVME of a message that arrives in chunks, in two halves of 32 bits, because BigInt would allocate for each byte. */
export class Crc64Nvme {
  constructor() {
    this.high = this.low = 0xffffffff;
    this.highs = new Uint32Array(256);
    this.lows = new Uint32Array(256);
    for (let index = 0; index < 256; index += 1) {
      let remainder = BigInt(index);
      for (let bit = 0; bit < 8; bit += 1) remainder = (remainder >> 1n) ^ (remainder & 1n ? POLYNOMIAL : 0n);
      this.highs[index] = Number(remainder >> 32n);
      this.lows[index] = Number(remainder & 0xffffffffn);
    }
  }

  update(bytes) {
    const { highs, lows } = this;
    let { high, low } = this;
    for (let at = 0; at < bytes.length; at += 1) {
      const index = (low ^ bytes[at]) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ lows[index];
      high = (high >>> 8) ^ highs[index];
    }
    Object.assign(this, { high, low });
  }

  digest() {
    const digest = new DataView(new ArrayBuffer(8));
    digest.setUint32(0, ~this.high);
    digest.setUint32(4, ~this.low);
    return new Uint8Array(digest.buffer);
  }
}

const HASHES = { sha256: Sha256, crc64nvme: Crc64Nvme };

/** Return the checksum of a Blob in base64. */
export async function checksumOf(blob, algorithm) {
  const hash = new HASHES[algorithm]();
  for (let at = 0; at < blob.size; at += CHUNK)
    hash.update(new Uint8Array(await blob.slice(at, at + CHUNK).arrayBuffer()));
  return btoa(String.fromCharCode(...hash.digest()));
}

function firstPrimes(count) {
  const primes = [];
  for (let n = 2; primes.length < count; n += 1) if (primes.every((prime) => n % prime)) primes.push(n);
  return primes;
}

function fraction(value) {
  return ((value - Math.floor(value)) * 2 ** 32) | 0;
}

if (typeof WorkerGlobalScope !== "undefined" && globalThis instanceof WorkerGlobalScope) {
  globalThis.onmessage = ({ data }) => {
    checksumOf(data.file, data.algorithm).then(
      (checksum) => postMessage({ checksum }),
      () => postMessage({}), // the file can no longer be read
    );
  };
}
