// A ZIP archive of uncompressed files (APPNOTE.TXT of PKWARE, 4.3). Pure.

const VERSION = 20;
const UTF8_NAMES = 0x0800;
const FIRST_DAY = 0x0021; // 1980-01-01, so that the same files are the same archive

/** @param {[string, string][]} files names and texts, in the order that they get */
export function zip(files) {
  const encoder = new TextEncoder();
  const entries = [];
  const directory = [];
  let offset = 0;
  for (const [name, text] of files) {
    const [path, data] = [encoder.encode(name), encoder.encode(text)];
    const about = packed([
      [2, VERSION], [2, UTF8_NAMES], [2, 0], [2, 0], [2, FIRST_DAY], [4, crc32(data)],
      [4, data.length], [4, data.length], [2, path.length], [2, 0],
    ]);
    const entry = [packed([[4, 0x04034b50]]), about, path, data];
    entries.push(...entry);
    directory.push(packed([[4, 0x02014b50], [2, VERSION]]), about);
    directory.push(packed([[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), path);
    offset += length(entry);
  }
  const count = files.length;
  const end = packed([
    [4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, length(directory)], [4, offset],
    [2, 0],
  ]);
  return new Blob([...entries, ...directory, end]);
}

/** @param {Uint8Array[]} pieces */
const length = (pieces) => pieces.reduce((sum, one) => sum + one.length, 0);

/** Numbers in little-endian order. @param {[2 | 4, number][]} fields the bytes of each, and its value */
function packed(fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

/** The checksum of ZIP and PNG. @param {Uint8Array} data */
function crc32(data) {
  let crc = -1;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
