/**
 * Looks at the beginning of an input before it is read: input that is no text is refused with one
 * sentence, a byte-order mark is removed, and the beginning is part of the returned input. It looks no
 * further than necessary: on a pipe the next bytes may take long to come.
 */
import { ConfigError } from '../errors.ts';

export interface LookedAt {
  /** The beginning as text; bytes that are not UTF-8 are replacement characters. */
  readonly head: string;
  /** The whole input, without the byte-order mark. */
  readonly bytes: AsyncGenerator<Uint8Array>;
}

const maxHeadBytes = 65_536;

/** Formats that people mistake for text files, by their first bytes. */
const signatures: readonly (readonly [bytes: string, what: string])[] = [
  ['fffe', 'UTF-16: save it as UTF-8, or convert it with `iconv -f UTF-16 -t UTF-8`'],
  ['feff', 'UTF-16: save it as UTF-8, or convert it with `iconv -f UTF-16 -t UTF-8`'],
  ['504b0304', 'a ZIP archive or a workbook (.xlsx, .ods): unpack it, or save it as CSV in UTF-8'],
  ['d0cf11e0', 'an Excel workbook: save it as CSV in UTF-8'],
  ['28b52ffd', 'packed with zstd: unpack it (gzip is read as it is)'],
  ['425a68', 'packed with bzip2: unpack it (gzip is read as it is)'],
  ['fd377a585a00', 'packed with xz: unpack it (gzip is read as it is)'],
  ['50415231', 'a Parquet file: write it as NDJSON or CSV'],
  ['4f626a01', 'an Avro file: write it as NDJSON or CSV'],
];

const mark = Buffer.from('\ufeff');

/** `lines`: how many non-blank lines to look at. @throws ConfigError naming the format if it is no text. */
export async function lookAt(name: string, source: AsyncIterable<Uint8Array>, lines: number): Promise<LookedAt> {
  const iterator = source[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let [size, seen] = [0, 0];
  while (size < maxHeadBytes && seen < lines) {
    const { done, value } = await iterator.next();
    if (done) break;
    pieces.push(value);
    size += value.length;
    // Counted at line ends only; blank lines do not count.
    if (value.includes(10))
      seen = Buffer.concat(pieces)
        .toString('latin1')
        .split('\n')
        .slice(0, -1)
        .filter((line) => line.trim() !== '').length;
  }
  const head = Buffer.concat(pieces);
  const start = head.subarray(0, mark.length).equals(mark) ? head.subarray(mark.length) : head;
  const foreign = foreignIn(head);
  if (foreign !== null) {
    await iterator.return?.();
    throw new ConfigError([`${name}: it is ${foreign}`]);
  }
  return { head: start.subarray(0, maxHeadBytes).toString(), bytes: again(start, iterator) };
}

function foreignIn(head: Buffer): string | null {
  const found = signatures.find(([bytes]) => head.toString('hex', 0, bytes.length / 2) === bytes);
  if (found !== undefined) return found[1];
  if (!head.includes(0)) return null;
  // In UTF-16 half of the bytes of Latin text are zero.
  const zeros = head.subarray(0, 64).filter((byte) => byte === 0).length;
  return zeros * 3 > Math.min(head.length, 64) ? signatures[0]![1] : null;
}

async function* again(start: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (start.length > 0) yield start;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}
