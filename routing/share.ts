/**
 * The hundredth, from 0 to 99, into which a contact falls in a split: always the same for the same salt (the branch), spread evenly,
 * and independent between salts, so that the contacts of one team are not those of one team in every other split too.
 */
export function shareOf(contactId: string, salt: string): number {
  return mixed(hashOf(`${salt.length}:${salt}${contactId}`)) % 100;
}

/** FNV-1a over UTF-16 units. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    hash = Math.imul(hash ^ (unit & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (unit >>> 8), 0x01000193);
  }
  return hash;
}

/** The last step of MurmurHash3: without it, ids that differ in the last letter only would fall beside each other. */
function mixed(hash: number): number {
  let bits = hash;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
